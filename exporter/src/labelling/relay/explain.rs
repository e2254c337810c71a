//! What becomes of one series, step by step, for people. Pure.

use super::{
    DropReason, OwnerKind, Pods, Relay,
    cache::Outcome,
    derive::{Context, Refusal},
    write,
};
use crate::{
    labelling::relabel::{Step, labels::METRIC_NAME},
    source::upstream::exposition::Fault,
};

/// Names and values, `__name__` among them, by name.
pub type LabelList = Vec<(String, String)>;

/// `name{labels}`.
#[must_use]
pub fn series_text(labels: &[(String, String)]) -> String {
    let name = labels.iter().find(|(name, _)| name == METRIC_NAME);
    let others = labels.iter().filter(|(name, _)| name != METRIC_NAME);
    let mut out = Vec::new();
    let others = others.map(|(name, value)| (name.as_str(), value.as_str()));
    write::series(&mut out, name.map_or("", |(_, value)| value), others);
    String::from_utf8_lossy(&out).into_owned()
}

/// The way of one series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// As it came.
    pub received: LabelList,
    /// Whom it is about.
    pub owner_kind: OwnerKind,
    /// With the labels of its pod and of its target.
    pub attributed: LabelList,
    /// What each rule of each list did, up to the one that drops the series.
    pub rules: Vec<Vec<Step>>,
    /// As it is served, or why it is not.
    pub outcome: Result<LabelList, NotServed>,
}

/// Why a series is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// It is dropped.
    #[error("dropped ({})", .0.as_str())]
    Dropped(DropReason),
    /// It is more than a limit allows, and its whole page is refused.
    #[error("its page is refused: it has more than {limit_name} allows")]
    Limit {
        /// The limit.
        limit_name: &'static str,
    },
}

/// A series that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {fault}")]
pub struct SeriesError {
    /// The byte, from 1.
    pub column: usize,
    /// What is wrong there.
    pub fault: Fault,
}

impl Relay {
    /// Explains a series that stands as on a page: `name{labels}`.
    pub fn explain(&mut self, series: &str, pods: &dyn Pods) -> Result<Explanation, SeriesError> {
        let error = |(column, fault)| SeriesError { column, fault };
        self.owners.refresh(pods);
        let Self { settings, hasher, families, owners, .. } = self;
        let mut context = Context { settings, families, owners, pods, hasher };
        let steps = context.steps(series.as_bytes()).map_err(error)?;
        let (outcome, owner_kind) = match context.derive(series.as_bytes()) {
            Ok(derived) => match derived.outcome {
                Outcome::Served { .. } => (Ok(steps.served), derived.owner_kind),
                Outcome::Dropped(reason) => (Err(NotServed::Dropped(reason)), derived.owner_kind),
            },
            Err(Refusal::LabelLimit { limit_name }) => {
                (Err(NotServed::Limit { limit_name }), OwnerKind::Node)
            }
            Err(Refusal::Malformed { column, fault }) => return Err(error((column, fault))),
        };
        Ok(Explanation {
            received: steps.received,
            owner_kind,
            attributed: steps.attributed,
            rules: steps.rules,
            outcome,
        })
    }
}
