//! The rules: which module may name which path, how long files and functions are, and what is never written.

use super::{Finding, imports, source::Source};

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 70;
const EXPORTER: &str = "exporter/src/";

/// A path that some modules of the exporter must not name.
struct Boundary {
    /// The path, as far as it is forbidden.
    path: &'static str,
    /// The modules that it is forbidden in, with all below them; an empty name is every module.
    within: &'static [&'static str],
    /// The modules among them that may.
    except: &'static [&'static str],
    fix: &'static str,
}

/// The modules that compute, and never look at the world.
const PURE: &[&str] = &[
    "metric",
    "subject",
    "demand",
    "source/upstream/exposition",
    "labelling",
    "page",
    "encode",
    "remote_write/instants",
    "remote_write/lines",
    "remote_write/message",
    "remote_write/queue",
    "remote_write/series",
    "remote_write/symbols",
];
const PURE_FIX: &str =
    "it does no IO and reads no clock: take the data, or the time, as an argument";

/// The invariants of ARCHITECTURE.md.
const BOUNDARIES: &[Boundary] = &[
    Boundary {
        path: "crate::attribution",
        within: &["source"],
        except: &[],
        fix: "a source knows whom it measured as a Subject, not which labels that becomes",
    },
    Boundary {
        path: "crate::source",
        within: &["attribution"],
        except: &[],
        fix: "attribution knows nothing of what is measured: put what both need into a module of its own",
    },
    Boundary {
        path: "aya",
        within: &[""],
        except: &["source/probe"],
        fix: "only source::probe loads programs: give it a function for this",
    },
    Boundary {
        path: "kube",
        within: &[""],
        except: &["attribution"],
        fix: "only attribution asks the Kubernetes API: give it a function for this",
    },
    Boundary {
        path: "hyper",
        within: &[""],
        except: &["server", "remote_write", "source/upstream/client"],
        fix: "HTTP is the matter of server, remote_write and source::upstream::client",
    },
    Boundary {
        path: "prometheus",
        within: &[""],
        except: &["telemetry"],
        fix: "only Podmeter's own counters are of that crate, and they live in telemetry",
    },
    Boundary { path: "std::fs", within: PURE, except: &[], fix: PURE_FIX },
    Boundary { path: "std::net", within: PURE, except: &[], fix: PURE_FIX },
    Boundary { path: "std::process", within: PURE, except: &[], fix: PURE_FIX },
    Boundary { path: "std::time::Instant", within: PURE, except: &[], fix: PURE_FIX },
    Boundary { path: "std::time::SystemTime", within: PURE, except: &[], fix: PURE_FIX },
    Boundary { path: "tokio", within: PURE, except: &[], fix: PURE_FIX },
];

/// Words that are never written.
struct Word {
    text: &'static str,
    place: Place,
    /// Where it is forbidden: the beginning of a path.
    within: &'static str,
    fix: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Code,
    CodeWithoutTests,
    Comment,
}

const WORDS: &[Word] = &[
    Word { text: "TODO", place: Place::Comment, within: "", fix: "open an issue instead" },
    Word { text: "FIXME", place: Place::Comment, within: "", fix: "open an issue instead" },
    Word { text: "todo!", place: Place::Code, within: "", fix: "finish it, or leave it out" },
    Word { text: "dbg!", place: Place::Code, within: "", fix: "remove it" },
    Word {
        text: "#[ignore]",
        place: Place::Code,
        within: "",
        fix: "say why: #[ignore = \"reason\"], or let the test skip itself with a printed reason",
    },
    Word {
        text: "Command::new",
        place: Place::CodeWithoutTests,
        within: EXPORTER,
        fix: "no child processes at run time: read the file or make the system call",
    },
];

/// Applies all rules to a file.
pub(crate) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !source.comments.first().is_some_and(|line| line.starts_with("//! ")) {
        let message = "line 1 must be `//! `: what this file is, and where its numbers come from";
        findings.push(Finding { line: 1, message: message.into() });
    }
    if source.n_lines_without_tests > MAX_FILE_LINES {
        let message = format!(
            "{} lines without tests, {MAX_FILE_LINES} are allowed: split it by idea",
            source.n_lines_without_tests
        );
        findings.push(Finding { line: MAX_FILE_LINES + 1, message });
    }
    findings.extend(words(source));
    findings.extend(functions(source));
    findings.extend(boundaries(source));
    findings
}

fn boundaries(source: &Source) -> Vec<Finding> {
    let Some(module) = module(&source.path) else {
        return Vec::new();
    };
    let is_under = |name: &&'static str| {
        let rest = module.strip_prefix(*name);
        name.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let mut findings = Vec::new();
    for boundary in BOUNDARIES {
        if !boundary.within.iter().any(is_under) || boundary.except.iter().any(is_under) {
            continue;
        }
        for named in imports::named(source, module) {
            let rest = named.path.strip_prefix(boundary.path);
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::")) {
                let Boundary { path, fix, .. } = boundary;
                let message = format!("{module} must not name {path}: {fix}");
                findings.push(Finding { line: named.line, message });
            }
        }
    }
    findings.dedup();
    findings
}

/// The module that a file of the exporter is: `source/probe` for `source/probe/mod.rs`.
fn module(path: &str) -> Option<&str> {
    let module = path.strip_prefix(EXPORTER)?.strip_suffix(".rs")?;
    Some(module.strip_suffix("/mod").unwrap_or(module))
}

fn words(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for rule in WORDS.iter().filter(|rule| source.path.starts_with(rule.within)) {
        let lines = match rule.place {
            Place::Code => source.code.as_slice(),
            Place::CodeWithoutTests => {
                source.code.get(..source.n_lines_without_tests).unwrap_or_default()
            }
            Place::Comment => source.comments.as_slice(),
        };
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| has_word(line, rule.text)) {
            let message = format!("{}: {}", rule.text, rule.fix);
            findings.push(Finding { line: index + 1, message });
        }
    }
    findings
}

/// Whether the line has the word, not as a part of another.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|before| before.chars().next_back());
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    })
}

/// Finds functions that are too long, by counting braces.
fn functions(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The functions that are open: the line of each, and the depth of its braces once it has any.
    let mut open: Vec<(usize, Option<usize>)> = Vec::new();
    let mut depth = 0_usize;
    // Inside of parentheses and brackets a semicolon ends nothing: [u8; 4].
    let mut n_brackets = 0_usize;
    for (index, line) in source.code.iter().enumerate() {
        if has_word(line, "fn ") && line.contains('(') {
            open.push((index, None));
        }
        for letter in line.chars() {
            match letter {
                '{' => {
                    if let Some((_, body @ None)) = open.last_mut() {
                        *body = Some(depth);
                    }
                    depth += 1;
                }
                '}' => {
                    depth = depth.saturating_sub(1);
                    if let Some(&(start, Some(body))) = open.last()
                        && body == depth
                    {
                        open.pop();
                        findings.extend(too_long(start, index));
                    }
                }
                '(' | '[' => n_brackets += 1,
                ')' | ']' => n_brackets = n_brackets.saturating_sub(1),
                // A declaration without a body.
                ';' if n_brackets == 0 && matches!(open.last(), Some((_, None))) => {
                    open.pop();
                }
                _ => {}
            }
        }
    }
    findings
}

fn too_long(start: usize, end: usize) -> Option<Finding> {
    let n_lines = end - start + 1;
    let message = format!(
        "a function of {n_lines} lines, {MAX_FUNCTION_LINES} are allowed: take a step out of it"
    );
    (n_lines > MAX_FUNCTION_LINES).then_some(Finding { line: start + 1, message })
}

#[cfg(test)]
mod tests {
    use super::{super::source::Source, check};

    /// The lines of the findings and the beginning of each message.
    fn expect(path: &str, text: &str, expected: &[(usize, &str)]) {
        let findings = check(&Source::new(path, text));
        let found: Vec<(usize, &str)> =
            findings.iter().map(|finding| (finding.line, finding.message.as_str())).collect();
        assert_eq!(found.len(), expected.len(), "{path}: {found:?}");
        for ((line, message), (expected_line, beginning)) in found.iter().zip(expected) {
            assert_eq!(line, expected_line, "{message}");
            assert!(message.starts_with(beginning), "{message}");
        }
    }

    #[test]
    fn the_first_line_says_what_the_file_is() {
        expect("xtask/src/a.rs", "//! A.\n", &[]);
        expect("xtask/src/a.rs", "mod a;\n", &[(1, "line 1 must be")]);
        expect("xtask/src/a.rs", "", &[(1, "line 1 must be")]);
    }

    #[test]
    fn boundaries_are_kept() {
        let check = |module: &str, line: &str, expected: &[(usize, &str)]| {
            expect(&format!("exporter/src/{module}.rs"), &format!("//! A.\n{line}\n"), expected);
        };
        check(
            "source/host/cpu",
            "use crate::{attribution::A, subject::S};",
            &[(2, "source/host/cpu must not")],
        );
        check(
            "attribution/mod",
            "use crate::source::Source;",
            &[(2, "attribution must not name crate::source")],
        );
        check("source/probe/cfs", "use aya::Ebpf;", &[]);
        check(
            "source/host/cpu",
            "use aya::Ebpf;",
            &[(2, "source/host/cpu must not name aya: only")],
        );
        check("main", "let a = kube::Client::new();", &[(2, "main must not name kube")]);
        check("attribution/api", "use kube::Client;", &[]);
        check("source/upstream/client", "use hyper::Request;", &[]);
        check("config/mod", "use hyper::Request;", &[(2, "config must not name hyper")]);
        check("page", "use std::{fmt, fs};", &[(2, "page must not name std::fs")]);
        check(
            "encode/text",
            "let now = std::time::Instant::now();",
            &[(2, "encode/text must not name std::time")],
        );
        check("encode/text", "use std::time::Duration;", &[]);
        check("pages", "use std::fs;", &[]);
        check("telemetry", "use prometheus::Registry;", &[]);
        check("server/mod", "use crate::prometheus_like::A;", &[]);
        check("page", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}", &[]);
    }

    #[test]
    fn some_words_are_never_written() {
        expect("xtask/src/a.rs", "//! A.\n// TODO: b\n", &[(2, "TODO")]);
        expect("xtask/src/a.rs", "//! A.\nsay(\"TODO\");\n", &[]);
        expect("xtask/src/a.rs", "//! A.\nmy_todo!();\ntodo!();\n", &[(3, "todo!")]);
        expect("tests/it/a.rs", "//! A.\n#[ignore]\n#[ignore = \"b\"]\n", &[(2, "#[ignore]")]);
        expect("xtask/src/a.rs", "//! A.\nCommand::new(\"ls\");\n", &[]);
        expect("exporter/src/a.rs", "//! A.\nCommand::new(\"ls\");\n", &[(2, "Command::new")]);
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let lines = |n_lines: usize| "    a();\n".repeat(n_lines);
        let function =
            |n_lines: usize| format!("//! A.\nfn a(b: [C; 4]) {{\n{}}}\n", lines(n_lines));
        expect("xtask/src/a.rs", &function(68), &[]);
        expect("xtask/src/a.rs", &function(69), &[(2, "a function of 71 lines")]);
        let two = format!("//! A.\ntrait T {{ fn a(); }}\nfn b() {{ if c {{ }}\n{}}}\n", lines(70));
        expect("xtask/src/a.rs", &two, &[(3, "a function of 72 lines")]);
        expect("xtask/src/a.rs", &format!("//! A.\n{}", lines(399)), &[]);
        expect("xtask/src/a.rs", &format!("//! A.\n{}", lines(400)), &[(401, "401 lines without")]);
        let tests = format!("//! A.\n{}#[cfg(test)]\n{}", lines(399), lines(99));
        expect("xtask/src/a.rs", &tests, &[]);
    }
}
