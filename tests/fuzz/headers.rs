//! Single parts of a request: the query, `Accept`, `Accept-Encoding`, `Authorization`, the scraper's timeout.

use std::time::Duration;

use podmeter::{
    demand::{DemandError, Offer},
    encode::{
        Format,
        accept::{self, Coding},
    },
    server::fuzzing,
};

/// As `server::limits` has it.
const LONGEST: Duration = Duration::from_mins(1);

const SOURCES: &[&str] = &["pod_state", "podmeter", "both"];
const JOBS: &[&str] = &["kubelet", "a b&c=d%", "both"];

/// Every one gets every input.
pub(crate) fn check(input: &[u8]) {
    check_authorization(input);
    if let Some(patience) = fuzzing::patience(input, LONGEST) {
        // Of a scraper that gives up at once nothing is left.
        assert!(patience < LONGEST, "{patience:?}");
    }
    let Ok(text) = str::from_utf8(input) else { return };
    check_query(text);
    check_accept(text);
}

fn check_authorization(input: &[u8]) {
    let Some((scheme, text)) = fuzzing::authorization(input) else { return };
    assert_eq!(scheme, scheme.to_ascii_lowercase());
    assert!(!scheme.contains(' ') && text == text.trim());
    let Some((name, password)) = fuzzing::login(input) else { return };
    assert!(scheme == "basic" && !name.contains(&b':'), "{name:?}");
    // Whoever is meant is meant by these two alone, however the rest is spelt.
    let upper = [b"BASIC  ", text.as_bytes(), b" "].concat();
    assert_eq!(fuzzing::login(&upper), Some((name, password)));
}

/// A query asks for everything, for a part that there is, or for what there is not, which the error names.
fn check_query(query: &str) {
    let offer = Offer {
        sources: SOURCES.to_vec(),
        jobs: JOBS.iter().map(|job| (*job).to_owned()).collect(),
    };
    // Parameters of others change nothing.
    let asked = offer.demand(query);
    assert_eq!(offer.demand(&format!("other=x&{query}")), asked, "{query:?}");
    let demand = match asked {
        Ok(demand) => demand,
        Err(DemandError::NoJob { name, jobs }) => {
            return assert!(!JOBS.contains(&name.as_str()) && jobs == JOBS, "{name:?}");
        }
        Err(DemandError::NoSource { name, .. }) => {
            assert!(
                !SOURCES.contains(&name.as_str()) && !JOBS.contains(&name.as_str()),
                "{name:?}"
            );
            return;
        }
        Err(DemandError::Both) => return,
    };
    let sources = SOURCES.iter().filter(|name| demand.wants_source(name));
    let jobs = JOBS.iter().filter(|name| demand.wants_job(name));
    let (n_sources, n_jobs) = (sources.clone().count(), jobs.clone().count());
    let is_whole = n_sources == SOURCES.len() && n_jobs == JOBS.len();
    assert_eq!(demand.is_whole(), is_whole, "{query:?}");
    // Asking for the same by its names gives the same page.
    if n_sources + n_jobs > 0 && !is_whole {
        let named = sources.chain(jobs.clone()).map(|name| format!("collect[]={}", escaped(name)));
        let again = offer.demand(&named.collect::<Vec<_>>().join("&")).expect("all are there");
        // `both` names two things.
        let has_twin = demand.wants_source("both") == demand.wants_job("both");
        assert!(!has_twin || again == demand, "{query:?}");
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Nothing is ever answered that was ruled out, and what cannot be read is shown shortened.
fn check_accept(header: &str) {
    match accept::format(header) {
        Ok(Format::OpenMetrics100) => {
            let named = header.to_ascii_lowercase();
            let wildcards = named.contains("*/*") || named.contains("application/*");
            assert!(wildcards || named.contains("application/openmetrics-text"), "{header:?}");
        }
        Ok(Format::Text004) => {}
        Err(error) => {
            assert!(error.header.chars().count() <= 80 && header.starts_with(&error.header));
        }
    }
    let named = header.to_ascii_lowercase();
    match accept::coding(header) {
        Coding::Gzip => assert!(named.contains("gzip") || named.contains('*'), "{header:?}"),
        Coding::Zstd => assert!(named.contains("zstd"), "{header:?}"),
        Coding::Identity => {}
    }
    // What nobody can want changes nothing.
    let (format, coding) = (accept::format(header).ok(), accept::coding(header));
    if format.is_some() {
        assert_eq!(accept::format(&format!("{header},x/y;q=0")).ok(), format, "{header:?}");
    }
    assert_eq!(accept::coding(&format!("{header},br;q=0")), coding, "{header:?}");
}
