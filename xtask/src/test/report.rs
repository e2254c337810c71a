//! The lines `report: a | b | c` that tests print, and tables of them.
//!
//! Two kinds have columns of their own: `truth | family | case | ours n | kernel n | difference`, a number of Podmeter's
//! beside the kernel's own, and `hook | probe | hook or "off" | reasons`, what a probe attached to and why not to better.

/// The columns that follow the guest's in a table of kind `truth`.
pub(crate) const TRUTH_COLUMNS: &[&str] = &["family", "case", "ours", "the kernel's", "difference"];
/// The columns that follow the guest's in a table of kind `hook`.
pub(crate) const HOOK_COLUMNS: &[&str] = &["probe", "hook", "reasons"];

/// The cells after the first one, if that is the kind.
pub(crate) fn of_kind(kind: &str, report: &str) -> Option<Vec<String>> {
    let mut cells = report.split('|').map(str::trim);
    if cells.next() != Some(kind) {
        return None;
    }
    // The words for whose number it is stand in the head of a table.
    let bare = |cell: &str| {
        let stripped = cell.strip_prefix("ours ").or_else(|| cell.strip_prefix("kernel "));
        stripped.unwrap_or(cell).replace('\t', " ")
    };
    Some(cells.map(bare).collect())
}

/// Reports as a table in which those of one kind have columns of one width; ` | ` parts the columns.
pub(crate) fn table(reports: &[String]) -> String {
    let rows: Vec<Vec<String>> = reports
        .iter()
        .map(|report| report.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect();
    let line = |row: &Vec<String>| {
        let alike: Vec<_> = rows.iter().filter(|other| is_alike(row, other)).collect();
        line(row, &alike)
    };
    rows.iter().map(line).collect()
}

/// Rows as a table with columns of one width.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let all: Vec<_> = rows.iter().collect();
    rows.iter().map(|row| line(row, &all)).collect()
}

/// One line of a table, with columns as wide as they are in the rows alike.
fn line(row: &[String], alike: &[&Vec<String>]) -> String {
    let width = |idx: usize| {
        let cells = alike.iter().filter_map(|row| row.get(idx));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let cells = row.iter().enumerate().map(|(idx, cell)| format!("{cell:0$}", width(idx)));
    format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
}

/// Whether two rows share their columns' widths: they are of one kind, which is what the first cell says.
fn is_alike(row: &[String], other: &[String]) -> bool {
    row.first() == other.first() && row.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::{aligned, of_kind, table};

    #[test]
    fn reports_are_aligned() {
        let reports = ["cfs | pod | +0.1 %".to_owned(), "cfs | parent | -1 %".to_owned()];
        assert_eq!(table(&reports), "  cfs  pod     +0.1 %\n  cfs  parent  -1 %\n");
        let reports = ["cfs | pod | 1".to_owned(), "other | something long".to_owned()];
        assert_eq!(table(&reports), "  cfs  pod  1\n  other  something long\n");
        let rows = [vec!["a".to_owned(), "b".into()], vec!["long".into(), String::new()]];
        assert_eq!(aligned(&rows), "  a     b\n  long\n");
    }

    #[test]
    fn kinds_are_told_apart() {
        let report = "truth | tcp | a, netem | ours 3 | kernel 3 | 0";
        let cells = ["tcp", "a, netem", "3", "3", "0"].map(String::from);
        assert_eq!(of_kind("truth", report), Some(cells.to_vec()));
        assert_eq!(of_kind("hook", report), None);
        assert_eq!(of_kind("truth", "truthful | a"), None);
    }
}
