//! Error texts for people: an error with all its causes on one line. Pure.

use std::error::Error;

/// Longest text that is kept; the kernel's verifier can write megabytes.
const MAX_CHARS: usize = 400;

/// The error and its causes, joined by colons on one line, each text once, cut after 400 characters.
#[must_use]
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries put the cause's text into their own.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{MAX_CHARS, one_line};

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: String,
        source: io::Error,
    }

    fn check(text: &str, cause: &str, expected: &str) {
        let error = Outer { text: text.into(), source: io::Error::other(cause.to_owned()) };
        assert_eq!(one_line(&error), expected);
    }

    #[test]
    fn joins_causes_once_and_on_one_line() {
        check("cannot read /x", "no such file", "cannot read /x: no such file");
        check("failed: no such file", "no such file", "failed: no such file");
        check("a\n  b", "c\n", "a b: c");
    }

    #[test]
    fn cuts_what_is_too_long() {
        let error = Outer { text: "ä".repeat(1000), source: io::Error::other("ä") };
        assert_eq!(one_line(&error).chars().count(), MAX_CHARS + 1);
    }
}
