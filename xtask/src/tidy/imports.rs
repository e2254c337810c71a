//! The full paths that a file names: those of its `use` trees, and those written out in its code.

use super::source::Source;

/// A path such as `std::fs::read`, and the line that names it, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: String,
    pub(crate) line: usize,
}

/// Every path that the file names outside its tests; those relative to a module are made to begin with `crate`.
pub(crate) fn named(source: &Source, module: &str) -> Vec<Named> {
    let mut paths = Vec::new();
    let mut tree: Option<(usize, String)> = None;
    for (index, line) in source.code.iter().take(source.n_lines_without_tests).enumerate() {
        let line_number = index + 1;
        let begins = use_tree(line);
        if let Some(begun) = begins {
            tree = Some((line_number, begun.into()));
        } else if let Some((_, text)) = &mut tree {
            text.push_str(line);
        }
        match &tree {
            Some((start, text)) if text.contains(';') => {
                let text = text.split(';').next().unwrap_or_default();
                let mut expanded = Vec::new();
                expand("", text, &mut expanded);
                let start = *start;
                paths.extend(expanded.into_iter().map(|path| Named { path, line: start }));
                tree = None;
            }
            Some(_) => {}
            None => paths.extend(
                written_out(line).into_iter().map(|path| Named { path, line: line_number }),
            ),
        }
    }
    for Named { path, .. } in &mut paths {
        *path = absolute(path, module);
    }
    paths
}

/// What follows `use` on a line that begins such an item.
fn use_tree(line: &str) -> Option<&str> {
    let mut line = line.trim_start();
    if let Some(rest) = line.strip_prefix("pub") {
        line = rest
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .map_or(rest, |(_, rest)| rest);
    }
    line.trim_start().strip_prefix("use ")
}

/// Takes a tree of `use` apart: `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let prefix = format!("{prefix}{}", without_spaces(head));
        let inner = rest.rsplit_once('}').map_or(rest, |(inner, _)| inner);
        for part in top_level_parts(inner) {
            expand(&prefix, part, paths);
        }
    } else if !tree.is_empty() {
        let path = tree.split(" as ").next().unwrap_or(tree);
        paths.push(format!("{prefix}{}", without_spaces(path)));
    }
}

/// The parts between commas that are in no braces.
fn top_level_parts(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_separator = |letter: char| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    };
    text.split(is_separator).collect()
}

/// The paths with at least one `::` in a line of code.
fn written_out(line: &str) -> Vec<String> {
    let is_path = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    line.split(|letter: char| !is_path(letter))
        .filter(|word| word.contains("::"))
        .map(|word| word.trim_start_matches("::").trim_end_matches(':').into())
        .collect()
}

/// Resolves `self` and `super` against the module that names them.
fn absolute(path: &str, module: &str) -> String {
    let mut module: Vec<&str> = module.split('/').filter(|part| !part.is_empty()).collect();
    let mut rest = path;
    let mut is_relative = false;
    loop {
        if let Some(after) = rest.strip_prefix("self::") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("super::") {
            module.pop();
            rest = after;
        } else {
            break;
        }
        is_relative = true;
    }
    if !is_relative {
        return path.into();
    }
    module.insert(0, "crate");
    module.push(rest);
    module.join("::")
}

fn without_spaces(text: &str) -> String {
    text.split_whitespace().collect()
}

#[cfg(test)]
mod tests {
    use super::{super::source::Source, named};

    fn check(text: &str, expected: &[(usize, &str)]) {
        let found = named(&Source::new("x.rs", text), "source/probe");
        let found: Vec<(usize, &str)> =
            found.iter().map(|named| (named.line, named.path.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn trees_are_taken_apart() {
        check(
            "use a::{\n    b,\n    c::{self, d as e},\n};\n",
            &[(1, "a::b"), (1, "a::c::self"), (1, "a::c::d")],
        );
        check("pub(crate) use a::b;\n", &[(1, "a::b")]);
        check(
            "use std::{fs, time::{Duration, Instant}};",
            &[(1, "std::fs"), (1, "std::time::Duration"), (1, "std::time::Instant")],
        );
    }

    #[test]
    fn paths_in_code_are_seen_and_resolved() {
        check("let a = std::fs::read(b)?;\n", &[(1, "std::fs::read")]);
        check("use super::super::attribution::A;\n", &[(1, "crate::attribution::A")]);
        check("use super::Source;\n", &[(1, "crate::source::Source")]);
        check("self::btf::read();\n", &[(1, "crate::source::probe::btf::read")]);
    }

    #[test]
    fn tests_and_comments_name_nothing() {
        check("// std::fs::read\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", &[]);
    }
}
