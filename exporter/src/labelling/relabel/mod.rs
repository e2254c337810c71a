//! Relabelling: the user's rules, which change the labels of a series or drop it. No IO, no clock.
//!
//! All eleven actions of Prometheus, with its semantics: an expression matches the whole text, its classes are ASCII,
//! a rule sees what the rules before it left.

pub mod labels;
pub mod re2;
pub mod rule;
mod spelling;
mod template;

#[cfg(test)]
mod tests;

pub use self::labels::LabelSet;
use self::rule::{Rule, RuleConfig, RuleError};

/// Rules in the order in which they are applied.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// Which rule of a list is none, and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("rule {number}")]
pub struct RulesError {
    /// Its place in the list, from one.
    pub number: usize,
    /// Why.
    pub source: RuleError,
}

/// What became of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is served, with the labels that it has now.
    Kept,
    /// It is not served.
    Dropped {
        /// The place of the rule that said so, from zero.
        rule_idx: usize,
    },
}

/// What one rule did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The labels behind it, by name.
    pub labels: Vec<(String, String)>,
    /// Whether they are others than before.
    pub is_changed: bool,
    /// Whether the series is still there.
    pub is_kept: bool,
}

impl Rules {
    /// Compiles a list of rules.
    pub fn new(configs: &[RuleConfig]) -> Result<Self, RulesError> {
        let rules = configs.iter().enumerate().map(|(idx, config)| {
            Rule::new(config).map_err(|source| RulesError { number: idx + 1, source })
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Applies each rule to what the one before it left.
    pub fn apply(&self, labels: &mut LabelSet<'_>) -> Verdict {
        match self.rules.iter().position(|rule| !rule.apply(labels)) {
            Some(rule_idx) => Verdict::Dropped { rule_idx },
            None => Verdict::Kept,
        }
    }

    /// Applies the rules and says what each did, up to the one that drops the series.
    pub fn explain(&self, labels: &mut LabelSet<'_>) -> Vec<Step> {
        let owned = |labels: &LabelSet<'_>| -> Vec<(String, String)> {
            let sorted = labels.sorted().into_iter();
            sorted.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let mut steps = Vec::with_capacity(self.rules.len());
        let mut before = owned(labels);
        for rule in &self.rules {
            let is_kept = rule.apply(labels);
            let after = owned(labels);
            let is_changed = after != before;
            before.clone_from(&after);
            steps.push(Step { labels: after, is_changed, is_kept });
            if !is_kept {
                break;
            }
        }
        steps
    }
}
