//! One rule: what the configuration says of it, whether that makes sense, and what it does to the labels of a series.
//! Pure.
//!
//! Semantics and messages are those of Prometheus 3.5, `model/relabel/relabel.go`, with the names of labels as
//! Prometheus 2 knows them (`[a-zA-Z_][a-zA-Z0-9_]*`): a page is to be readable for every scraper.

use std::borrow::Cow;

use md5::{Digest as _, Md5};
use regex::bytes::Regex;
use serde::Deserialize;

use super::{
    labels::LabelSet,
    re2::{PatternError, anchored},
    template::Template,
};

const DEFAULT_SEPARATOR: &str = ";";
const DEFAULT_REGEX: &str = "(.*)";
const DEFAULT_REPLACEMENT: &str = "$1";

/// One item of `metric_relabel_configs` or `relabel_configs`, as it stands in the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct RuleConfig {
    /// Labels whose values are joined by the separator.
    pub source_labels: Option<Vec<String>>,
    /// Between two values; `;` if not given.
    pub separator: Option<String>,
    /// What the whole of the joined values must match; `(.*)` if not given.
    pub regex: Option<String>,
    /// Divisor of the hash for `hashmod`.
    pub modulus: Option<u64>,
    /// The label that is set, or compared with.
    pub target_label: Option<String>,
    /// What the target is set to; `$1` if not given.
    pub replacement: Option<String>,
    /// What is done; `replace` if not given.
    pub action: Option<String>,
}

/// Why a rule is none; the messages are Prometheus'.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// No such action.
    #[error("unknown relabel action \"{0}\"")]
    Action(String),
    /// `hashmod` divides by it.
    #[error("relabel configuration for hashmod requires non-zero modulus")]
    Modulus,
    /// The action has to know which label it sets or compares.
    #[error("relabel configuration for {0} action requires 'target_label' value")]
    NoTarget(&'static str),
    /// The target is no name, and cannot become one.
    #[error("\"{target}\" is invalid 'target_label' for {action} action")]
    Target {
        /// What stands there.
        target: String,
        /// The action.
        action: &'static str,
    },
    /// A source is no name.
    #[error("\"{0}\" is not a valid label name in 'source_labels'")]
    Source(String),
    /// The replacement becomes a name with `labelmap`.
    #[error("\"{replacement}\" is invalid 'replacement' for {action} action")]
    Replacement {
        /// What stands there.
        replacement: String,
        /// The action.
        action: &'static str,
    },
    /// The action does not use it.
    #[error("'replacement' can not be set for {0} action")]
    NeedlessReplacement(&'static str),
    /// The action compares two texts.
    #[error("{0} action requires only 'source_labels' and `target_label`, and no other fields")]
    OnlySourceAndTarget(&'static str),
    /// The action looks at names.
    #[error("{0} action requires only 'regex', and no other fields")]
    OnlyRegex(&'static str),
    /// The regular expression.
    #[error("`regex` is `{regex}`")]
    Pattern {
        /// What stands there.
        regex: String,
        /// Why it is none.
        source: PatternError,
    },
}

/// A rule that can be applied.
#[derive(Clone, Debug)]
pub struct Rule {
    source_labels: Vec<String>,
    separator: String,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Replace(Box<Replace>),
    Keep(Regex),
    Drop(Regex),
    KeepEqual { target: String },
    DropEqual { target: String },
    HashMod { target: String, modulus: u64 },
    LabelMap(Box<(Regex, Template)>),
    LabelDrop(Regex),
    LabelKeep(Regex),
    Lowercase { target: String },
    Uppercase { target: String },
}

#[derive(Clone, Debug)]
struct Replace {
    regex: Regex,
    target: Template,
    replacement: Template,
    /// Whether the expression is the default one, and neither template looks at what it matched.
    is_plain: bool,
}

/// The actions' names, as an error says them.
const ACTIONS: [&str; 11] = [
    "replace",
    "keep",
    "drop",
    "keepequal",
    "dropequal",
    "hashmod",
    "labelmap",
    "labeldrop",
    "labelkeep",
    "lowercase",
    "uppercase",
];

impl Rule {
    /// Checks what the configuration says, and compiles it.
    pub fn new(config: &RuleConfig) -> Result<Self, RuleError> {
        let given = config.action.as_deref().unwrap_or("replace");
        let lower = given.to_lowercase();
        let action = ACTIONS.into_iter().find(|known| *known == lower);
        let action = action.ok_or_else(|| RuleError::Action(given.to_owned()))?;
        let sources = config.source_labels.clone().unwrap_or_default();
        if let Some(source) = sources.iter().find(|source| !is_label_name(source)) {
            return Err(RuleError::Source(source.clone()));
        }
        check_fields(config, action)?;
        Ok(Self {
            source_labels: sources,
            separator: config.separator.clone().unwrap_or_else(|| DEFAULT_SEPARATOR.to_owned()),
            action: Action::new(config, action)?,
        })
    }

    /// Changes the labels, and says whether the series stays.
    #[must_use]
    pub(super) fn apply(&self, labels: &mut LabelSet<'_>) -> bool {
        match &self.action {
            Action::Keep(regex) => regex.is_match(self.source(labels).as_bytes()),
            Action::Drop(regex) => !regex.is_match(self.source(labels).as_bytes()),
            Action::KeepEqual { target } => labels.get(target) == self.source(labels),
            Action::DropEqual { target } => labels.get(target) != self.source(labels),
            action => {
                self.change(action, labels);
                true
            }
        }
    }

    fn change(&self, action: &Action, labels: &mut LabelSet<'_>) {
        match action {
            Action::Replace(replace) => {
                if let Some((target, value)) = replace.result(&self.source(labels)) {
                    labels.set(target, value);
                }
            }
            Action::HashMod { target, modulus } => {
                let value = hash(&self.source(labels)).checked_rem(*modulus).unwrap_or(0);
                labels.set(target.clone(), value.to_string());
            }
            Action::Lowercase { target } => {
                let value: String = self.source(labels).chars().map(lower).collect();
                labels.set(target.clone(), value);
            }
            Action::Uppercase { target } => {
                let value: String = self.source(labels).chars().map(upper).collect();
                labels.set(target.clone(), value);
            }
            Action::LabelMap(map) => label_map(&map.0, &map.1, labels),
            Action::LabelDrop(regex) => labels.retain(|name| !regex.is_match(name.as_bytes())),
            Action::LabelKeep(regex) => labels.retain(|name| regex.is_match(name.as_bytes())),
            Action::Keep(_)
            | Action::Drop(_)
            | Action::KeepEqual { .. }
            | Action::DropEqual { .. } => {}
        }
    }

    /// The values of the source labels, joined.
    fn source<'b>(&self, labels: &'b LabelSet<'_>) -> Cow<'b, str> {
        match self.source_labels.as_slice() {
            [] => Cow::Borrowed(""),
            [only] => Cow::Borrowed(labels.get(only)),
            several => {
                let values: Vec<&str> = several.iter().map(|name| labels.get(name)).collect();
                Cow::Owned(values.join(&self.separator))
            }
        }
    }
}

impl Action {
    fn new(config: &RuleConfig, action: &'static str) -> Result<Self, RuleError> {
        let regex = || {
            let regex = config.regex.as_deref().unwrap_or(DEFAULT_REGEX);
            let pattern = |source| RuleError::Pattern { regex: regex.to_owned(), source };
            anchored(regex).map_err(pattern)
        };
        let target = config.target_label.clone().unwrap_or_default();
        let replacement = config.replacement.as_deref().unwrap_or(DEFAULT_REPLACEMENT);
        Ok(match action {
            "keep" => Self::Keep(regex()?),
            "drop" => Self::Drop(regex()?),
            "keepequal" => Self::KeepEqual { target },
            "dropequal" => Self::DropEqual { target },
            "hashmod" => Self::HashMod { target, modulus: config.modulus.unwrap_or(0) },
            "labelmap" => {
                let regex = regex()?;
                let replacement = Template::new(replacement, &regex);
                Self::LabelMap(Box::new((regex, replacement)))
            }
            "labeldrop" => Self::LabelDrop(regex()?),
            "labelkeep" => Self::LabelKeep(regex()?),
            "lowercase" => Self::Lowercase { target },
            "uppercase" => Self::Uppercase { target },
            _ => {
                let is_default = config.regex.as_deref().is_none_or(|text| text == DEFAULT_REGEX);
                let regex = regex()?;
                let target = Template::new(&target, &regex);
                let replacement = Template::new(replacement, &regex);
                let is_plain = is_default && target.is_constant() && replacement.is_constant();
                Self::Replace(Box::new(Replace { regex, target, replacement, is_plain }))
            }
        })
    }
}

impl Replace {
    /// The label to set and its value, if the expression matches and the target is a name.
    fn result(&self, source: &str) -> Option<(String, String)> {
        if self.is_plain && source.is_empty() {
            let value = self.replacement.as_str().to_owned();
            return Some((self.target.as_str().to_owned(), value));
        }
        let captures = self.regex.captures(source.as_bytes())?;
        let (mut target, mut value) = (String::new(), String::new());
        self.target.expand(source, &captures, &mut target);
        if !is_label_name(&target) {
            return None;
        }
        self.replacement.expand(source, &captures, &mut value);
        Some((target, value))
    }
}

fn label_map(regex: &Regex, replacement: &Template, labels: &mut LabelSet<'_>) {
    let mut mapped = Vec::new();
    for (name, value) in labels.iter() {
        if let Some(captures) = regex.captures(name.as_bytes()) {
            let mut target = String::new();
            replacement.expand(name, &captures, &mut target);
            mapped.push((target, value.to_owned()));
        }
    }
    for (name, value) in mapped {
        // Prometheus sets what is no name, too, and then refuses the whole page.
        if is_label_name(&name) {
            labels.set(name, value);
        }
    }
}

/// What Prometheus checks of the fields besides the expression.
fn check_fields(config: &RuleConfig, action: &'static str) -> Result<(), RuleError> {
    let target = config.target_label.as_deref().unwrap_or_default();
    let replacement = config.replacement.as_deref().unwrap_or(DEFAULT_REPLACEMENT);
    let modulus = config.modulus.unwrap_or(0);
    let is_default =
        |given: &Option<String>, default| given.as_deref().is_none_or(|it| it == default);
    let separator_is_default = is_default(&config.separator, DEFAULT_SEPARATOR);
    let compares = matches!(action, "keepequal" | "dropequal");
    let maps_case = matches!(action, "lowercase" | "uppercase");
    if action == "hashmod" && modulus == 0 {
        return Err(RuleError::Modulus);
    }
    if compares || maps_case || matches!(action, "replace" | "hashmod") {
        if target.is_empty() {
            return Err(RuleError::NoTarget(action));
        }
        let is_valid =
            if action == "replace" { is_name_template(target) } else { is_label_name(target) };
        if !is_valid {
            return Err(RuleError::Target { target: target.to_owned(), action });
        }
    }
    if (compares || maps_case) && replacement != DEFAULT_REPLACEMENT {
        return Err(RuleError::NeedlessReplacement(action));
    }
    if action == "labelmap" && !is_name_template(replacement) {
        return Err(RuleError::Replacement { replacement: replacement.to_owned(), action });
    }
    if compares
        && !(is_default(&config.regex, DEFAULT_REGEX) && modulus == 0 && separator_is_default)
    {
        return Err(RuleError::OnlySourceAndTarget(action));
    }
    let names_only = matches!(action, "labeldrop" | "labelkeep");
    let has_other = config.source_labels.is_some()
        || !target.is_empty()
        || modulus != 0
        || !separator_is_default
        || replacement != DEFAULT_REPLACEMENT;
    if names_only && has_other {
        return Err(RuleError::OnlyRegex(action));
    }
    Ok(())
}

/// Whether this is the name of a label for every scraper.
pub(in crate::labelling) fn is_label_name(name: &str) -> bool {
    let is_first = |byte: u8| byte == b'_' || byte.is_ascii_alphabetic();
    name.bytes().next().is_some_and(is_first)
        && name.bytes().all(|byte| is_first(byte) || byte.is_ascii_digit())
}

/// Whether this is a name but for groups of an expression, `$1` and `${name}`.
fn is_name_template(template: &str) -> bool {
    let is_word = |char: char| char == '_' || char.is_ascii_alphanumeric();
    let mut rest = template;
    let mut is_first = true;
    while let Some(char) = rest.chars().next() {
        let mut after = rest.get(char.len_utf8()..).unwrap_or_default();
        if char == '$' {
            let name_end = |text: &str| text.find(|char| !is_word(char)).unwrap_or(text.len());
            let braced = after.strip_prefix('{');
            let text = braced.unwrap_or(after);
            let (name, behind) = text.split_at(name_end(text));
            let closed = if braced.is_some() { behind.strip_prefix('}') } else { Some(behind) };
            match closed {
                Some(behind) if !name.is_empty() => after = behind,
                _ => return false,
            }
        } else if !is_word(char) || (is_first && char.is_ascii_digit()) {
            return false;
        }
        is_first = false;
        rest = after;
    }
    !is_first
}

/// The last eight bytes of the MD5 sum, as Prometheus has them since its first version.
fn hash(text: &str) -> u64 {
    let sum = u128::from_be_bytes(Md5::digest(text.as_bytes()).into());
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is asked for")]
    let last = sum as u64;
    last
}

/// Lower case by the character, as Go's `strings.ToLower`: a final sigma is none.
fn lower(char: char) -> char {
    one_or_same(char, char.to_lowercase())
}

/// Upper case by the character, as Go's `strings.ToUpper`: ß has none.
fn upper(char: char) -> char {
    one_or_same(char, char.to_uppercase())
}

/// The first of the mapped characters for U+0130, whose lower case is `i` in Go; else the only one.
fn one_or_same(char: char, mut mapped: impl ExactSizeIterator<Item = char>) -> char {
    match (mapped.len(), mapped.next()) {
        (1, Some(mapped)) => mapped,
        (_, Some(first)) if char == '\u{130}' => first,
        _ => char,
    }
}
