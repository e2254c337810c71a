//! A strict reader of pages in text 0.0.4, of our own making: the one that Podmeter has is what is tested.

use std::collections::{HashMap, HashSet};

/// A page.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Values by name and labels, which are sorted and written as on the page.
    series: HashMap<String, f64>,
    /// Types by family.
    types: HashMap<String, String>,
}

impl Exposition {
    /// Reads a page; a line that is none, and a series or a type that comes twice, fail the test.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self::try_parse(text).unwrap_or_else(|what| panic!("the page is not valid: {what}"))
    }

    /// Reads a page, or says what is wrong with it.
    pub fn try_parse(text: &str) -> Result<Self, String> {
        if !text.ends_with('\n') {
            return Err("it ends within a line".into());
        }
        let mut page = Self::default();
        for line in text.lines() {
            page.line(line).map_err(|what| format!("{what}: {line}"))?;
        }
        Ok(page)
    }

    fn line(&mut self, line: &str) -> Result<(), &'static str> {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').ok_or("a type without a family")?;
            let earlier = self.types.insert(family.into(), kind.into());
            return if earlier.is_some() { Err("a second type of a family") } else { Ok(()) };
        }
        if line.starts_with('#') {
            return Ok(());
        }
        let (series, rest) = series(line)?;
        let value = rest.split(' ').next().ok_or("no value")?;
        let value = value.parse().map_err(|_not_a_number| "no number")?;
        let earlier = self.series.insert(series, value);
        if earlier.is_some() { Err("a series that comes twice") } else { Ok(()) }
    }

    /// How many series it has.
    #[must_use]
    pub fn n_series(&self) -> usize {
        self.series.len()
    }

    /// All values of series with this name, which have these labels and maybe others.
    pub fn values(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = f64> {
        self.named(name, labels).map(|(_, value)| value)
    }

    /// The same with the series, as they are written.
    pub fn named(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = (&str, f64)> {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let of_name = self.series.iter().filter(move |(series, _)| {
            let rest = series.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('{'))
                && labels.iter().all(|label| {
                    rest.is_some_and(|rest| {
                        rest.contains(&format!("{{{label}")) || rest.contains(&format!(",{label}"))
                    })
                })
        });
        of_name.map(|(series, value)| (series.as_str(), *value))
    }

    /// The sum of all series with this name and these labels; nothing if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.values(name, labels).reduce(|sum, value| sum + value)
    }

    /// The series of a target, as they are written.
    pub fn of_job(&self, job: &str) -> impl Iterator<Item = &str> {
        let label = format!("job=\"{job}\"");
        self.series
            .keys()
            .map(String::as_str)
            .filter(move |series| series.split(['{', ',', '}']).any(|part| part == label))
    }

    /// The value of a series that is written like this, with its labels sorted.
    #[must_use]
    pub fn exactly(&self, series: &str) -> Option<f64> {
        self.series.get(series).copied()
    }

    /// Series that may only rise: counters, and what histograms and summaries count.
    ///
    /// The sum of a histogram may fall where what is observed may be negative; nothing that Podmeter or a kubelet observes
    /// is.
    pub fn rising(&self) -> impl Iterator<Item = (&str, f64)> {
        let rises = |series: &str| {
            let name = series.split('{').next().unwrap_or_default();
            if let Some(kind) = self.types.get(name) {
                return kind == "counter";
            }
            ["_bucket", "_count", "_sum"].iter().any(|suffix| {
                let family = name.strip_suffix(suffix);
                family.is_some_and(|family| {
                    self.types
                        .get(family)
                        .is_some_and(|kind| kind == "histogram" || kind == "summary")
                })
            })
        };
        let rising = self.series.iter().filter(move |(series, _)| rises(series));
        rising.map(|(series, value)| (series.as_str(), *value))
    }

    /// Series that may only rise and are less here than on an earlier page, as lines.
    #[must_use]
    pub fn fallen_since(&self, earlier: &Self) -> Vec<String> {
        let fallen = earlier.rising().filter_map(|(series, before)| {
            let after = *self.series.get(series)?;
            (after < before).then(|| format!("{series}: {before}, then {after}"))
        });
        fallen.collect()
    }
}

/// Families whose lines do not stand together on a page, by name.
#[must_use]
pub fn torn_families(page: &str) -> HashSet<&str> {
    let mut kinds = HashMap::new();
    let mut current = "";
    let (mut ended, mut torn) = (HashSet::new(), HashSet::new());
    for line in page.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let family = match words.as_slice() {
            ["#", "TYPE", name, kind] => {
                kinds.insert(*name, *kind);
                *name
            }
            ["#", "HELP", name, ..] => *name,
            ["#", ..] => continue,
            _ => family_of(line.split(['{', ' ']).next().unwrap_or_default(), &kinds),
        };
        if family != current {
            ended.insert(current);
            current = family;
            if ended.contains(family) {
                torn.insert(family);
            }
        }
    }
    torn
}

/// The family of a sample of this name, where these families have a type.
fn family_of<'a>(name: &'a str, kinds: &HashMap<&str, &str>) -> &'a str {
    let has_parts = |family: &&str| matches!(kinds.get(family), Some(&"histogram" | &"summary"));
    let mut bases =
        ["_bucket", "_count", "_sum"].iter().filter_map(|suffix| name.strip_suffix(suffix));
    let base = bases.find(has_parts);
    base.filter(|_| !kinds.contains_key(name)).unwrap_or(name)
}

/// Name and sorted labels of a line, and what stands behind them.
fn series(line: &str) -> Result<(String, &str), &'static str> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at_checked(end).ok_or("no name")?;
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("no name");
    }
    let Some(mut rest) = rest.strip_prefix('{') else {
        return Ok((format!("{name}{{}}"), rest.trim_start_matches(' ')));
    };
    let mut labels = Vec::new();
    let rest = loop {
        if let Some(behind) = rest.strip_prefix('}') {
            break behind.strip_prefix(' ').ok_or("no space before the value")?;
        }
        let (label, behind) = rest.split_once("=\"").ok_or("a label without a value")?;
        let end = end_of_value(behind).ok_or("a value without an end")?;
        let (value, behind) = behind.split_at_checked(end).ok_or("a value without an end")?;
        labels.push(format!("{label}=\"{value}\""));
        let behind = behind.strip_prefix('"').ok_or("a value without an end")?;
        rest = behind.strip_prefix(',').unwrap_or(behind);
    };
    labels.sort_unstable();
    Ok((format!("{name}{{{}}}", labels.join(",")), rest))
}

/// Where the quotation mark is that ends a value.
fn end_of_value(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Exposition, torn_families};

    #[test]
    fn families_whose_lines_are_apart_are_found() {
        let check = |page: &str, expected: &[&str]| {
            assert_eq!(torn_families(page), expected.iter().copied().collect::<HashSet<_>>());
        };
        let histogram =
            "# HELP a A.\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n";
        check(histogram, &[]);
        check(&format!("{histogram}b 1\nc 1\n"), &[]);
        check(&format!("{histogram}b 1\na_sum{{x=\"1\"}} 1\nb 2\n"), &["a", "b"]);
        check(&format!("{histogram}b 1\n# TYPE a histogram\n"), &["a"]);
        check("b 1\nc 1\nb{x=\"1\"} 1\n", &["b"]);
    }

    #[test]
    fn a_page_is_read() {
        let text = "# HELP a A.\n# TYPE a counter\na{x=\"1\",b=\"}\\\"\"} 2\nup 1\nc_sum{} 1.5 1700000000000\n";
        let page = Exposition::parse(text);
        assert_eq!(page.n_series(), 3);
        assert_eq!(page.sum("a", &[("x", "1")]), Some(2.0));
        assert_eq!(page.sum("a", &[("x", "2")]), None);
        assert_eq!(page.sum("up", &[]), Some(1.0));
        assert_eq!(page.sum("c_sum", &[]), Some(1.5));
        let later = Exposition::parse("# TYPE a counter\na{b=\"}\\\"\",x=\"1\"} 1\nup 0\n");
        assert_eq!(later.fallen_since(&page), ["a{b=\"}\\\"\",x=\"1\"}: 2, then 1"]);
    }

    #[test]
    fn what_is_no_page_is_refused() {
        let check = |text: &str, expected: &str| {
            let error = Exposition::try_parse(text).expect_err(text);
            assert!(error.contains(expected), "{error}");
        };
        check("a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n", "comes twice");
        check("# TYPE a gauge\n# TYPE a gauge\n", "a second type");
        check("a{x=\"1} 1\n", "without an end");
        check("a one\n", "no number");
        check("a 1\nb", "within a line");
    }
}
