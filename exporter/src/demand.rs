//! Which part of the page a scrape asks for: `job`, `collect[]` and `exclude[]` of its query. Pure.
//!
//! `job` names a target of the relay; `collect[]` and `exclude[]` name sources, as `node_exporter` names its collectors,
//! or targets. Other parameters are left alone, as exporters do.

use std::{collections::BTreeSet, fmt};

/// The source of what the Kubernetes API says of pods (`kube_pod_…`).
pub const POD_STATE: &str = "pod_state";

/// The source of Podmeter's own counters.
pub const SELF: &str = "podmeter";

/// Everything that can be asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The sources, in the order in which they are shown.
    pub sources: Vec<&'static str>,
    /// The targets by `job`, in the order in which they are shown.
    pub jobs: Vec<String>,
}

/// What is asked for; equal demands are for the same page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Demand(Option<Part>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Part {
    sources: BTreeSet<&'static str>,
    jobs: BTreeSet<String>,
}

/// Why a query asks for no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DemandError {
    /// A target that there is not.
    #[error("there is no target with the job {name:?}; {}", Choice("jobs", jobs))]
    NoJob {
        /// What was asked for.
        name: String,
        /// What there is.
        jobs: Vec<String>,
    },
    /// A source that there is not.
    #[error(
        "there is no source {name:?}; {}; {}",
        Choice("sources", sources),
        Choice("targets", jobs)
    )]
    NoSource {
        /// What was asked for.
        name: String,
        /// What there is.
        sources: Vec<String>,
        /// And by targets.
        jobs: Vec<String>,
    },
    /// Both ways of saying what is wanted.
    #[error(
        "`exclude[]` goes with neither `collect[]` nor `job`: ask for what is wanted, or for all but what is not"
    )]
    Both,
}

impl Offer {
    /// What a query, without its `?`, asks for.
    pub fn demand(&self, query: &str) -> Result<Demand, DemandError> {
        let mut only = Part::none();
        let mut but = Part::none();
        let (mut has_only, mut has_but) = (false, false);
        for (key, name) in form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "job" => {
                    only.jobs.insert(self.job(&name)?);
                    has_only = true;
                }
                "collect[]" => {
                    self.add(&name, &mut only)?;
                    has_only = true;
                }
                "exclude[]" => {
                    self.add(&name, &mut but)?;
                    has_but = true;
                }
                _ => {}
            }
        }
        let part = match (has_only, has_but) {
            (false, false) => return Ok(Demand(None)),
            (true, true) => return Err(DemandError::Both),
            (true, false) => only,
            (false, true) => self.whole().without(&but),
        };
        Ok(Demand((part != self.whole()).then_some(part)))
    }

    fn job(&self, name: &str) -> Result<String, DemandError> {
        let known = self.jobs.iter().find(|job| *job == name).cloned();
        known.ok_or_else(|| DemandError::NoJob { name: name.into(), jobs: self.jobs.clone() })
    }

    /// Adds the source of that name, or the target, or both.
    fn add(&self, name: &str, part: &mut Part) -> Result<(), DemandError> {
        let source = self.sources.iter().find(|source| **source == name);
        let job = self.jobs.iter().find(|job| *job == name);
        if source.is_none() && job.is_none() {
            return Err(DemandError::NoSource {
                name: name.into(),
                sources: self.sources.iter().map(|source| (*source).into()).collect(),
                jobs: self.jobs.clone(),
            });
        }
        part.sources.extend(source);
        part.jobs.extend(job.cloned());
        Ok(())
    }

    fn whole(&self) -> Part {
        Part {
            sources: self.sources.iter().copied().collect(),
            jobs: self.jobs.iter().cloned().collect(),
        }
    }
}

impl Part {
    fn none() -> Self {
        Self { sources: BTreeSet::new(), jobs: BTreeSet::new() }
    }

    fn without(mut self, other: &Self) -> Self {
        self.sources.retain(|source| !other.sources.contains(source));
        self.jobs.retain(|job| !other.jobs.contains(job));
        self
    }
}

impl Demand {
    /// Whether everything is asked for.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_none()
    }

    /// Whether the source is asked for.
    #[must_use]
    pub fn wants_source(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|part| part.sources.contains(name))
    }

    /// Whether the target is asked for.
    #[must_use]
    pub fn wants_job(&self, job: &str) -> bool {
        self.0.as_ref().is_none_or(|part| part.jobs.contains(job))
    }
}

/// What can be chosen from, for people.
struct Choice<'a>(&'static str, &'a [String]);

impl fmt::Display for Choice<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(what, []) => write!(formatter, "there are no {what}"),
            Self(what, names) => write!(formatter, "the {what} are {}", names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Demand, DemandError, Offer};

    fn offer() -> Offer {
        Offer {
            sources: vec!["tcp", "oom", "podmeter"],
            jobs: ["cadvisor", "kube proxy", "tcp"].map(str::to_owned).to_vec(),
        }
    }

    fn wanted(demand: &Demand) -> String {
        let Offer { sources, jobs } = offer();
        let sources = sources.into_iter().filter(|name| demand.wants_source(name));
        let jobs = jobs.into_iter().filter(|job| demand.wants_job(job));
        let sources: Vec<_> = sources.map(str::to_owned).collect();
        format!("{} | {}", sources.join(" "), jobs.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_query_asks_for_a_part() {
        let check = |query: &str, expected: &str| {
            let demand = offer().demand(query).unwrap();
            assert_eq!(wanted(&demand), expected, "{query}");
            assert_eq!(demand.is_whole(), demand == Demand::default(), "{query}");
        };
        let all = "tcp oom podmeter | cadvisor kube proxy tcp";
        check("", all);
        check("other=1&collect=x&job[]=x", all);
        check("job=cadvisor", " | cadvisor");
        check("job=cadvisor&job=kube+proxy&job=cadvisor", " | cadvisor kube proxy");
        check("job=kube%20proxy&collect%5B%5D=oom", "oom | kube proxy");
        check("collect[]=tcp", "tcp | tcp");
        check("job=tcp", " | tcp");
        check("exclude[]=tcp&exclude[]=podmeter", "oom | cadvisor kube proxy");
        check("collect[]=tcp&collect[]=oom&collect[]=podmeter&job=cadvisor&job=kube+proxy", all);
    }

    #[test]
    fn what_there_is_not_is_refused() {
        let check = |query: &str, expected: &str| {
            assert_eq!(offer().demand(query).unwrap_err().to_string(), expected, "{query}");
        };
        check(
            "job=oom",
            "there is no target with the job \"oom\"; the jobs are cadvisor, kube proxy, tcp",
        );
        check(
            "collect[]=ooom",
            "there is no source \"ooom\"; the sources are tcp, oom, podmeter; the targets are cadvisor, kube proxy, tcp",
        );
        check(
            "job=",
            "there is no target with the job \"\"; the jobs are cadvisor, kube proxy, tcp",
        );
        assert_eq!(offer().demand("job=tcp&exclude[]=oom"), Err(DemandError::Both));
        let nothing = Offer::default();
        assert_eq!(
            nothing.demand("exclude[]=\n").unwrap_err().to_string(),
            "there is no source \"\\n\"; there are no sources; there are no targets"
        );
    }
}
