//! One source file, with code and comments apart: a word in a string or a comment is no code.

use std::{iter::Peekable, str::CharIndices};

/// A file as the rules see it. All lists have one item per line.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root of the workspace.
    pub(crate) path: String,
    /// The code: comments, and what is between quotes, are blank.
    pub(crate) code: Vec<String>,
    /// The comments: everything else is blank.
    pub(crate) comments: Vec<String>,
    /// How many lines come before the tests.
    pub(crate) n_lines_without_tests: usize,
}

impl Source {
    /// Reads a file's text.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, comments) = split(text);
        let lines = |text: String| text.lines().map(Into::into).collect::<Vec<String>>();
        let code = lines(code);
        let tests = code.iter().position(|line| line.trim_start().starts_with("#[cfg(test)]"));
        Self {
            path: path.into(),
            n_lines_without_tests: tests.unwrap_or(code.len()),
            comments: lines(comments),
            code,
        }
    }
}

/// What the text is made of, at one place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    BlockComment { depth: usize },
    String,
    RawString { n_hashes: usize },
}

/// Gives the text twice, once with only its code and once with only its comments; line ends stay in both.
fn split(text: &str) -> (String, String) {
    let mut code = String::with_capacity(text.len());
    let mut comments = String::with_capacity(text.len());
    let mut state = State::Code;
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        let rest = text.get(at..).unwrap_or_default();
        let was = state;
        // How many letters belong to what was recognised.
        let (next, n_letters) = step(state, rest);
        state = next;
        let mut put = |letter: char| {
            let in_comment = is_comment(was) || is_comment(next);
            let is_code = was == State::Code && !in_comment;
            for (out, wanted) in [(&mut code, is_code), (&mut comments, in_comment)] {
                out.push(if letter == '\n' || wanted { letter } else { ' ' });
            }
        };
        put(letter);
        take(&mut letters, n_letters - 1, put);
    }
    (code, comments)
}

fn is_comment(state: State) -> bool {
    matches!(state, State::LineComment | State::BlockComment { .. })
}

/// Looks at the text from one place on: the state after it, and how many letters that took.
fn step(state: State, rest: &str) -> (State, usize) {
    match state {
        State::Code => code_step(rest),
        State::LineComment if rest.starts_with('\n') => (State::Code, 1),
        State::BlockComment { depth } if rest.starts_with("/*") => {
            (State::BlockComment { depth: depth + 1 }, 2)
        }
        State::BlockComment { depth: 0 } if rest.starts_with("*/") => (State::Code, 2),
        State::BlockComment { depth } if rest.starts_with("*/") => {
            (State::BlockComment { depth: depth - 1 }, 2)
        }
        State::String if rest.starts_with('\\') => (state, 2),
        State::String if rest.starts_with('"') => (State::Code, 1),
        State::LineComment | State::BlockComment { .. } | State::String => (state, 1),
        State::RawString { n_hashes } => {
            let end = format!("\"{}", "#".repeat(n_hashes));
            if rest.starts_with(&end) { (State::Code, 1 + n_hashes) } else { (state, 1) }
        }
    }
}

fn code_step(rest: &str) -> (State, usize) {
    if rest.starts_with("//") {
        return (State::LineComment, 2);
    }
    if rest.starts_with("/*") {
        return (State::BlockComment { depth: 0 }, 2);
    }
    if rest.starts_with('"') {
        return (State::String, 1);
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let n_hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw.get(n_hashes..).is_some_and(|raw| raw.starts_with('"')) {
            return (State::RawString { n_hashes }, 2 + n_hashes);
        }
    }
    // A letter between quotes, which may itself be a quote; a lifetime has no second quote.
    if let Some(quoted) = rest.strip_prefix('\'') {
        let n_letters = if quoted.starts_with('\\') { 2 } else { 1 };
        if quoted.chars().nth(n_letters) == Some('\'') {
            return (State::Code, n_letters + 2);
        }
    }
    (State::Code, 1)
}

fn take(letters: &mut Peekable<CharIndices<'_>>, n_letters: usize, mut put: impl FnMut(char)) {
    for (_, letter) in letters.by_ref().take(n_letters) {
        put(letter);
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn code_and_comments_are_told_apart() {
        let check = |text: &str, code: &str, comment: &str| {
            let source = Source::new("x.rs", text);
            let words: Vec<&str> = source.code[0].split_whitespace().collect();
            assert_eq!(words.join(" "), code, "{text}");
            assert_eq!(source.comments[0].trim(), comment, "{text}");
        };
        check("let a = 1; // one", "let a = 1;", "// one");
        check(r#"say("// no \" comment"); // one"#, "say(\" );", "// one");
        check(r##"say(r#"a " b"#); // c"##, "say(r#\" );", "// c");
        check("a /* b /* c */ d */ e", "a e", "/* b /* c */ d */");
        check("if c == '\"' { f::<'a>() } // g", "if c == '\"' { f::<'a>() }", "// g");
        check(r"if c == '\'' { } // g", r"if c == '\'' { }", "// g");
    }

    #[test]
    fn lines_stay_lines() {
        let source = Source::new("x.rs", "//! a\nlet b = \"c\nd\";\n#[cfg(test)]\nmod tests {}\n");
        assert_eq!(source.code.len(), 5);
        assert_eq!(source.n_lines_without_tests, 3);
    }
}
