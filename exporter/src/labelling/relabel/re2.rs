//! Regular expressions as Go's package `regexp` reads them (RE2), for the crate `regex`. Pure.
//!
//! The two agree on what most people write, and differ where it does not show: `\d`, `\w`, `\s` and `\b` are ASCII in
//! Go and Unicode in Rust, `[a&&b]` and `[[a]]` are set operations in Rust only, `\<` is a word boundary in Rust and a
//! less-than sign in Go, and `{,3}` and a lone `{` are literals in Go.
//! So a pattern is read by Go's grammar and written anew.
//! Refused are what Go refuses, and `\C` (a single byte).
//! Source of the grammar: <https://github.com/google/re2/wiki/Syntax>, and `regexp/syntax/parse.go` of Go 1.24.

use std::{fmt::Write as _, iter::Peekable, str::CharIndices};

use regex::bytes::Regex;

/// Largest count in `{n,m}`, as in Go.
const MAX_REPEAT: u32 = 1000;

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PatternError {
    /// Go's parser would refuse it here.
    #[error("{what} at byte {at} of the regular expression")]
    Syntax {
        /// What is wrong.
        what: Wrong,
        /// Where.
        at: usize,
    },
    /// It is too large, or wrong in a way that only compiling it shows.
    #[error("the regular expression does not compile: {0}")]
    Compile(String),
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// A backslash and a character that has no meaning with it.
    #[error("invalid escape sequence")]
    Escape,
    /// `a**` and its like.
    #[error("invalid nested repetition operator")]
    NestedRepeat,
    /// More than Go allows.
    #[error("invalid repeat count (at most {MAX_REPEAT})")]
    RepeatCount,
    /// `(?=`, `(?x)` and its like.
    #[error("invalid or unsupported Perl syntax")]
    Group,
    /// `[a`.
    #[error("missing closing ]")]
    OpenClass,
    /// `[z-a]`, `[[:no:]]`.
    #[error("invalid character class range")]
    ClassRange,
}

/// Compiles a pattern so that it matches a whole text and nothing less: `^(?s:…)$`, as Prometheus anchors it.
pub(super) fn anchored(pattern: &str) -> Result<Regex, PatternError> {
    let translated = translate(pattern)?;
    // By itself first, so that `a)(b` is an error and does not close our group.
    let alone = Regex::new(&translated);
    alone
        .and_then(|_valid| Regex::new(&format!("^(?s:{translated})$")))
        .map_err(|error| PatternError::Compile(compile_message(&error)))
}

/// The last line of the crate's message; those before it draw a picture of the translated pattern.
fn compile_message(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

fn translate(pattern: &str) -> Result<String, PatternError> {
    Translator { pattern, rest: pattern.char_indices().peekable(), out: String::new() }.run()
}

struct Translator<'a> {
    pattern: &'a str,
    rest: Peekable<CharIndices<'a>>,
    out: String,
}

impl<'a> Translator<'a> {
    fn run(mut self) -> Result<String, PatternError> {
        let mut after_repeat = false;
        while let Some((at, char)) = self.rest.next() {
            let repeat = match char {
                '*' | '+' | '?' => Some(char.to_string()),
                '{' => self.counted(at)?,
                _ => None,
            };
            if let Some(repeat) = repeat {
                if after_repeat {
                    return Err(wrong(Wrong::NestedRepeat, at));
                }
                self.out.push_str(&repeat);
                if self.rest.next_if(|(_, char)| *char == '?').is_some() {
                    self.out.push('?');
                }
                after_repeat = true;
                continue;
            }
            after_repeat = false;
            match char {
                '\\' => self.escape(at)?,
                '[' => self.class(at)?,
                '(' => self.group(at)?,
                '.' | '^' | '$' | '|' | ')' => self.out.push(char),
                _ => self.literal(char),
            }
        }
        Ok(self.out)
    }

    /// What has not been read yet.
    fn remaining(&mut self) -> &'a str {
        let at = self.rest.peek().map_or(self.pattern.len(), |(at, _)| *at);
        self.pattern.get(at..).unwrap_or_default()
    }

    fn skip(&mut self, n_bytes: usize) {
        let end = self.pattern.len() - self.remaining().len() + n_bytes;
        while self.rest.next_if(|(at, _)| *at < end).is_some() {}
    }

    fn literal(&mut self, char: char) {
        self.out.push_str(&regex::escape(char.encode_utf8(&mut [0; 4])));
    }

    /// The repeat whose `{` was read, if it is one.
    fn counted(&mut self, at: usize) -> Result<Option<String>, PatternError> {
        let Some((inside, _)) = self.remaining().split_once('}') else {
            return Ok(None);
        };
        let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(least) || !(most.is_empty() || is_number(most)) {
            return Ok(None);
        }
        let count = |text: &str| {
            let count = text.parse::<u32>().ok().filter(|count| *count <= MAX_REPEAT);
            count.ok_or_else(|| wrong(Wrong::RepeatCount, at))
        };
        if !most.is_empty() && count(least)? > count(most)? {
            return Err(wrong(Wrong::RepeatCount, at));
        }
        count(least)?;
        self.skip(inside.len() + 1);
        Ok(Some(format!("{{{inside}}}")))
    }

    /// The group whose `(` was read.
    fn group(&mut self, at: usize) -> Result<(), PatternError> {
        let Some(after) = self.remaining().strip_prefix('?') else {
            self.out.push('(');
            return Ok(());
        };
        let head = if after.starts_with("P<") || after.starts_with('<') {
            after.find('>')
        } else {
            after.find([':', ')'])
        };
        let head = head.and_then(|end| after.get(..=end)).ok_or(wrong(Wrong::Group, at))?;
        let flags = head.get(..head.len() - 1).unwrap_or_default();
        let is_named = flags
            .strip_prefix("P<")
            .or_else(|| flags.strip_prefix('<'))
            .is_some_and(|name| name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()));
        if !is_named && !flags.bytes().all(|flag| b"imsU-".contains(&flag)) {
            return Err(wrong(Wrong::Group, at));
        }
        self.out.push_str("(?");
        self.out.push_str(head);
        self.skip(1 + head.len());
        Ok(())
    }

    /// The escape whose backslash was read, outside a class.
    fn escape(&mut self, at: usize) -> Result<(), PatternError> {
        let Some(&(_, char)) = self.rest.peek() else {
            return Err(wrong(Wrong::Escape, at));
        };
        match char {
            'A' | 'z' => {
                self.skip(1);
                self.out.push('\\');
                self.out.push(char);
            }
            // Where the text is matched as bytes, both are allowed; what consumes text goes by whole characters.
            'b' | 'B' => {
                self.skip(1);
                self.out.push_str("(?-u:\\");
                self.out.push(char);
                self.out.push(')');
            }
            'Q' => {
                self.skip(1);
                let quoted = self.remaining();
                let end = quoted.find("\\E");
                let literal = end.and_then(|end| quoted.get(..end)).unwrap_or(quoted);
                self.out.push_str(&regex::escape(literal));
                self.skip(literal.len() + if end.is_some() { 2 } else { 0 });
            }
            _ => match self.class_escape(at)? {
                Item::Set(set) => self.out.push_str(&set),
                Item::Char(char) => self.literal(char),
            },
        }
        Ok(())
    }

    /// What may follow a backslash within a class, and outside.
    fn class_escape(&mut self, at: usize) -> Result<Item, PatternError> {
        let Some((_, char)) = self.rest.next() else {
            return Err(wrong(Wrong::Escape, at));
        };
        let set = |set: &str| Ok(Item::Set(set.to_owned()));
        match char {
            'd' => set("[0-9]"),
            'D' => set("[^0-9]"),
            's' => set("[\\t\\n\\f\\r ]"),
            'S' => set("[^\\t\\n\\f\\r ]"),
            'w' => set("[0-9A-Za-z_]"),
            'W' => set("[^0-9A-Za-z_]"),
            'p' | 'P' => self.unicode_class(char, at),
            'a' => Ok(Item::Char('\x07')),
            'f' => Ok(Item::Char('\x0c')),
            'n' => Ok(Item::Char('\n')),
            'r' => Ok(Item::Char('\r')),
            't' => Ok(Item::Char('\t')),
            'v' => Ok(Item::Char('\x0b')),
            'x' => self.hexadecimal(at),
            '0'..='7' => self.octal(char, at),
            _ if char.is_ascii() && !char.is_ascii_alphanumeric() => Ok(Item::Char(char)),
            _ => Err(wrong(Wrong::Escape, at)),
        }
    }

    fn unicode_class(&mut self, letter: char, at: usize) -> Result<Item, PatternError> {
        let rest = self.remaining();
        let name = if rest.starts_with('{') {
            rest.find('}').and_then(|end| rest.get(..=end))
        } else {
            rest.chars().next().and_then(|char| rest.get(..char.len_utf8()))
        };
        let name = name.ok_or(wrong(Wrong::ClassRange, at))?;
        self.skip(name.len());
        Ok(Item::Set(format!("\\{letter}{name}")))
    }

    fn hexadecimal(&mut self, at: usize) -> Result<Item, PatternError> {
        let rest = self.remaining();
        let (digits, n_bytes) = match rest.strip_prefix('{') {
            Some(braced) => {
                let digits = braced.split_once('}').map(|(digits, _)| digits);
                let digits = digits.ok_or(wrong(Wrong::Escape, at))?;
                (digits, digits.len() + 2)
            }
            None => (rest.get(..2).ok_or(wrong(Wrong::Escape, at))?, 2),
        };
        let is_hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_hexadecimal);
        let char = number.and_then(char::from_u32).ok_or(wrong(Wrong::Escape, at))?;
        self.skip(n_bytes);
        Ok(Item::Char(char))
    }

    /// `\0`, `\12` and `\123`; a single digit but zero would be a backreference, which there is none of.
    fn octal(&mut self, first: char, at: usize) -> Result<Item, PatternError> {
        let mut number = first.to_digit(8).unwrap_or(0);
        let mut n_digits = 1;
        while n_digits < 3 {
            let Some((_, digit)) = self.rest.next_if(|(_, char)| ('0'..='7').contains(char)) else {
                break;
            };
            number = number * 8 + digit.to_digit(8).unwrap_or(0);
            n_digits += 1;
        }
        let char = char::from_u32(number).filter(|_| first == '0' || n_digits > 1);
        char.map(Item::Char).ok_or(wrong(Wrong::Escape, at))
    }

    /// The class whose `[` was read.
    fn class(&mut self, at: usize) -> Result<(), PatternError> {
        self.out.push('[');
        if self.rest.next_if(|(_, char)| *char == '^').is_some() {
            self.out.push('^');
        }
        let mut is_first = true;
        loop {
            let Some(&(item_at, char)) = self.rest.peek() else {
                return Err(wrong(Wrong::OpenClass, at));
            };
            if char == ']' && !is_first {
                self.skip(1);
                self.out.push(']');
                return Ok(());
            }
            is_first = false;
            if let Some(named) = posix_class(self.remaining()) {
                if !is_known_posix_class(named) {
                    return Err(wrong(Wrong::ClassRange, item_at));
                }
                self.out.push_str(named);
                self.skip(named.len());
                continue;
            }
            let low = match self.class_item(at)? {
                Item::Set(set) => {
                    self.out.push_str(&set);
                    continue;
                }
                Item::Char(char) => char,
            };
            let rest = self.remaining();
            let high = if rest.starts_with('-') && !rest.starts_with("-]") && rest.len() > 1 {
                self.skip(1);
                match self.class_item(at)? {
                    Item::Char(high) if high >= low => high,
                    _ => return Err(wrong(Wrong::ClassRange, item_at)),
                }
            } else {
                low
            };
            self.push_range(low, high);
        }
    }

    fn class_item(&mut self, at: usize) -> Result<Item, PatternError> {
        match self.rest.next() {
            None => Err(wrong(Wrong::OpenClass, at)),
            Some((escape_at, '\\')) => self.class_escape(escape_at),
            Some((_, char)) => Ok(Item::Char(char)),
        }
    }

    /// By number, so that no character means anything but itself.
    fn push_range(&mut self, low: char, high: char) {
        let (low, high) = (u32::from(low), u32::from(high));
        #[expect(clippy::expect_used, reason = "writing to a string never fails")]
        write!(self.out, "\\x{{{low:x}}}-\\x{{{high:x}}}").expect("a string takes all");
    }
}

/// A character, or a set of them in the crate's syntax.
enum Item {
    Char(char),
    Set(String),
}

/// `[:alpha:]` and its like, if the text begins so.
fn posix_class(text: &str) -> Option<&str> {
    let end = text.strip_prefix("[:")?.find(":]")?;
    text.get(..end + 4)
}

fn is_known_posix_class(named: &str) -> bool {
    const NAMES: [&str; 14] = [
        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
        "space", "upper", "word", "xdigit",
    ];
    let name = named.trim_start_matches("[:").trim_end_matches(":]");
    NAMES.contains(&name.strip_prefix('^').unwrap_or(name))
}

fn wrong(what: Wrong, at: usize) -> PatternError {
    PatternError::Syntax { what, at }
}

#[cfg(test)]
mod tests {
    use super::{PatternError, Wrong, anchored};

    /// What a pattern matches, and what it does not.
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let regex = anchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        for text in matching {
            assert!(regex.is_match(text.as_bytes()), "{pattern} does not match {text:?}");
        }
        for text in others {
            assert!(!regex.is_match(text.as_bytes()), "{pattern} matches {text:?}");
        }
    }

    #[test]
    fn matches_whole_texts_only() {
        check("f|o", &["f", "o"], &["foo", "of"]);
        check("a.b", &["a\nb", "axb"], &["a\r\nb"]);
        check("", &[""], &["a", "\n"]);
        check("a$", &["a"], &["a\n"]);
        check("^a\\z", &["a"], &["ab"]);
    }

    #[test]
    fn perl_classes_are_ascii() {
        check("\\d+", &["129"], &["1२9"]);
        check("\\w+", &["az_09"], &["é"]);
        check("\\W", &["é", "-"], &["a"]);
        check("[\\d.]+", &["1.2"], &["१"]);
        check("[^\\D]+", &["12"], &["a"]);
        check("a\\sb", &["a b", "a\tb"], &["a\u{a0}b", "a\x0bb"]);
        check("a\\b.*", &["a é", "aé"], &["ab"]);
        check("é\\B.", &["é-"], &["éa"]);
        check("(?i)straße", &["STRAßE"], &["STRASSE"]);
    }

    #[test]
    fn classes_have_no_operators() {
        check("[a&&b]", &["a", "&", "b"], &["c"]);
        check("[[a]", &["[", "a"], &["]"]);
        check("[+--]", &["+", ",", "-"], &["b"]);
        check("[]a]", &["]", "a"], &["["]);
        check("[^]a]", &["b"], &["]", "a"]);
        check("[a-c-e]", &["b", "-", "e"], &["d"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[[:alpha:]_~~]", &["x", "_", "~"], &["1"]);
        check("[[:^digit:]]", &["x"], &["1"]);
        check("[[:]", &["[", ":"], &["a"]);
        check("[\\]\\-x]", &["]", "-", "x"], &["\\"]);
    }

    #[test]
    fn escapes_and_braces_are_go_s() {
        check("\\<a\\>", &["<a>"], &["a"]);
        check("a{,3}", &["a{,3}"], &["aa"]);
        check("a{", &["a{"], &["a"]);
        check("a}]", &["a}]"], &[]);
        check("a{2,3}?b", &["aab"], &["ab"]);
        check("\\Qa.b\\E+", &["a.b", "a.bb"], &["axb"]);
        check("\\Qa.(", &["a.("], &[]);
        check("\\x41\\x{1F600}\\101\\0", &["A😀A\0"], &[]);
        check("\\_\\-\\/", &["_-/"], &[]);
        check("\\pL\\p{Greek}", &["aα"], &["1α"]);
        check("(?P<n>a)(?<m>b)(?i:c)(?s-m).", &["abC\n"], &["abdx"]);
        check("a b#c", &["a b#c"], &[]);
    }

    #[test]
    fn refuses_what_go_refuses() {
        let check = |pattern: &str, what, at| {
            let error = anchored(pattern).unwrap_err();
            assert_eq!(error, PatternError::Syntax { what, at }, "{pattern}");
        };
        check("a**", Wrong::NestedRepeat, 2);
        check("a*??", Wrong::NestedRepeat, 3);
        check("a{2}{3}", Wrong::NestedRepeat, 4);
        check("a{1001}", Wrong::RepeatCount, 1);
        check("a{3,2}", Wrong::RepeatCount, 1);
        check("(?=a)", Wrong::Group, 0);
        check("(?x)a", Wrong::Group, 0);
        check("(?P<a", Wrong::Group, 0);
        check("a\\1", Wrong::Escape, 1);
        check("\\u0041", Wrong::Escape, 0);
        check("a\\", Wrong::Escape, 1);
        check("\\é", Wrong::Escape, 0);
        check("\\C", Wrong::Escape, 0);
        check("\\Z", Wrong::Escape, 0);
        check("x[a", Wrong::OpenClass, 1);
        check("[z-a]", Wrong::ClassRange, 1);
        check("[a-\\d]", Wrong::ClassRange, 1);
        check("[[:no:]]", Wrong::ClassRange, 1);
    }

    #[test]
    fn what_only_compiling_shows_is_an_error_too() {
        let check = |pattern: &str, expected: &str| {
            let error = anchored(pattern).unwrap_err().to_string();
            assert!(error.contains(expected), "{pattern}: {error}");
        };
        check("a)(b", "unopened group");
        check("*a", "repetition operator missing expression");
        check("((((a{1000}){1000}){1000}){1000})", "size limit");
        check("\\p{NoSuchScript}", "Unicode property not found");
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_panics(pattern in "\\PC*") {
            let outcome = anchored(&pattern);
            proptest::prop_assert!(outcome.is_ok() || outcome.is_err());
        }

        #[test]
        fn a_quoted_text_matches_itself_and_no_longer_one(text in "[^E]*") {
            let regex = anchored(&format!("\\Q{text}")).unwrap();
            proptest::prop_assert!(regex.is_match(text.as_bytes()));
            let longer = format!("{text}x");
            proptest::prop_assert!(!regex.is_match(longer.as_bytes()));
        }
    }
}
