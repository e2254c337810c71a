//! `$1` and `${name}` in `replacement` and `target_label`, by the rules of Go's `Regexp.Expand`. Pure.
//!
//! A name without braces is as long as it can be: `$1x` is the group `1x`, which no expression has, and so is empty.

use regex::bytes::{Captures, Regex};

/// A text with the groups of one expression in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Group(usize),
}

impl Template {
    /// Reads a template; a group that the expression does not have is empty.
    pub(super) fn new(text: &str, regex: &Regex) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = name(after) else {
                literal.push('$');
                rest = after;
                continue;
            };
            rest = after;
            if let Some(index) = index(name, regex) {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(Part::Group(index));
            }
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        parts.retain(|part| !matches!(part, Part::Literal(text) if text.is_empty()));
        Self { text: text.to_owned(), parts }
    }

    /// The template as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is the same for every match.
    pub(super) fn is_constant(&self) -> bool {
        !self.text.contains('$')
    }

    /// Appends the template with its groups as they matched in `text`.
    pub(super) fn expand(&self, text: &str, captures: &Captures<'_>, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Literal(literal) => out.push_str(literal),
                Part::Group(index) => {
                    let group = captures.get(*index).and_then(|group| text.get(group.range()));
                    out.push_str(group.unwrap_or_default());
                }
            }
        }
    }
}

/// The name behind a dollar sign, and what follows it; none where the dollar stands for itself.
fn name(after: &str) -> Option<(&str, &str)> {
    let is_part = |char: char| char == '_' || char.is_alphanumeric();
    let (name, rest) = match after.strip_prefix('{') {
        Some(braced) => braced.split_once('}')?,
        None => after.split_at(after.find(|char| !is_part(char)).unwrap_or(after.len())),
    };
    (!name.is_empty() && name.chars().all(is_part)).then_some((name, rest))
}

fn index(name: &str, regex: &Regex) -> Option<usize> {
    if name.bytes().all(|byte| byte.is_ascii_digit()) {
        return name.parse().ok().filter(|index| *index < regex.captures_len());
    }
    regex.capture_names().position(|group| group == Some(name))
}

#[cfg(test)]
mod tests {
    use super::Template;
    use crate::labelling::relabel::re2::anchored;

    #[test]
    fn expands_as_go_does() {
        let regex = anchored("(?P<first>[^-]*)-(.*)").unwrap();
        let text = "a-é";
        let captures = regex.captures(text.as_bytes()).unwrap();
        let check = |template: &str, expected: &str| {
            let mut out = String::new();
            Template::new(template, &regex).expand(text, &captures, &mut out);
            assert_eq!(out, expected, "{template}");
        };
        check("$1", "a");
        check("${1}x$2", "axé");
        check("$1x", "");
        check("${first}_$0", "a_a-é");
        check("$first-$2", "a-é");
        check("$3${nobody}.", ".");
        check("$$1 $", "$1 $");
        check("${1", "${1");
        check("${}", "${}");
        check("${a b}", "${a b}");
        check("5 $-", "5 $-");
        check("$99999999999999999999", "");
        check("", "");
    }
}
