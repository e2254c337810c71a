//! The page at `/`, for people: one HTML document without anything from elsewhere.

mod busy;

use std::{fmt, time::Duration};

use http::HeaderValue;

use super::app::{Attachment, Fact, Landing, Outcome, ProbeState, SourceState};

const STYLE: &str = "\
body{font-family:system-ui,sans-serif;line-height:1.4;max-width:72em;margin:1.5em auto;padding:0 1em;color:#222;background:#fff}\
h1{overflow-wrap:anywhere}h2{margin:1.5em 0 .5em}h3{margin:0 0 .3em;font-size:1em}\
.wide{overflow-x:auto}table{border-collapse:collapse}\
th,td{text-align:left;vertical-align:top;padding:.3em .8em .3em 0;border-bottom:1px solid #ddd}\
th{font-weight:600;color:#555}\
.wide td{white-space:nowrap}.wide td:last-child{white-space:normal;overflow-wrap:anywhere;min-width:14em}\
@media(max-width:40em){.wide td{white-space:normal}.wide td:last-child{min-width:9em}}\
.busy td:first-child{overflow-wrap:anywhere}\
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}meter{width:4em}\
.busy{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30em),1fr));gap:1.5em}.busy table{width:100%}\
.good{color:#17642b}.bad{color:#a3120a}";

/// What a browser may do with the document: nothing but show it, in its own style, of which this is the digest.
pub(super) const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'sha256-rfj1pZRSFxbiYNry09SUPAmhJ8QFJJS/5kZkdVnqdS8='; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The whole document.
pub(super) fn html(landing: &Landing, endpoint: &[Fact]) -> String {
    let Landing {
        version,
        node_name,
        kernel,
        uptime,
        busy,
        configuration,
        kubernetes,
        probes,
        sources,
        targets_from,
        targets,
        remote_write,
    } = landing;
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Podmeter on {node}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>Podmeter on {node}</h1>\n\
         <p>Version {version}, kernel {kernel}, up {uptime}.</p>\n\
         <ul>\n\
         <li><a href=\"/metrics\">/metrics</a>: the metrics of this node; <code>?job=</code>, \
         <code>?collect[]=</code> and <code>?exclude[]=</code> choose a part</li>\n\
         <li><a href=\"/healthz\">/healthz</a>: whether Podmeter runs</li>\n\
         <li><a href=\"/readyz\">/readyz</a>: whether Podmeter is ready, or why not</li>\n\
         </ul>\n\
         {busy}\
         <h2>Endpoint</h2>\n{endpoint}\
         <h2>Configuration</h2>\n{configuration}\
         <h2>Kubernetes API</h2>\n{kubernetes}\
         <h2>Probes</h2>\n{probes}\
         <h2>Sources</h2>\n{sources}\
         <h2>Targets</h2>\n<p>{targets_from}.</p>\n{targets}\
         {remote_write}\
         </body>\n</html>\n",
        node = Escaped(node_name),
        version = Escaped(version),
        kernel = Escaped(kernel),
        uptime = Span(*uptime),
        busy = busy::section(busy.as_ref()),
        targets_from = Escaped(targets_from),
        endpoint = table(&["what", "state"], endpoint.iter().map(fact_row)),
        configuration = table(&["what", "state"], configuration.iter().map(fact_row)),
        kubernetes = table(&["what", "state"], kubernetes.iter().map(fact_row)),
        probes = table(&["probe", "state", "hook, or why not"], probes.iter().map(probe_row)),
        sources = table(
            &["source", "state", "last duration", "age", "last error"],
            sources.iter().map(source_row),
        ),
        remote_write = remote_write_section(remote_write),
        targets = table(
            &["job", "state", "last duration", "age", "remark, or last error"],
            targets.iter().map(source_row),
        ),
    )
}

/// Nothing where nothing is pushed.
fn remote_write_section(receivers: &[Fact]) -> String {
    if receivers.is_empty() {
        return String::new();
    }
    let receivers = table(&["receiver", "state"], receivers.iter().map(fact_row));
    format!("<h2>Remote write</h2>\n{receivers}")
}

fn table(titles: &[&str], rows: impl Iterator<Item = String>) -> String {
    let titles = titles.join("</th><th>");
    let rows: String = rows.collect();
    if rows.is_empty() {
        return "<p>None.</p>\n".to_owned();
    }
    format!("<div class=\"wide\">\n<table>\n<tr><th>{titles}</th></tr>\n{rows}</table>\n</div>\n")
}

fn fact_row(fact: &Fact) -> String {
    let class = if fact.is_well { "good" } else { "bad" };
    let (name, text) = (Escaped(&fact.name), Escaped(&fact.text));
    format!("<tr><td>{name}</td><td class=\"{class}\">{text}</td></tr>\n")
}

fn probe_row(probe: &ProbeState) -> String {
    let (class, state, detail) = match &probe.attachment {
        Attachment::Attached { hook } => ("good", "attached", hook),
        Attachment::Absent { reason } => ("bad", "absent", reason),
    };
    format!(
        "<tr><td>{}</td><td class=\"{class}\">{state}</td><td>{}</td></tr>\n",
        Escaped(&probe.name),
        Escaped(detail),
    )
}

fn source_row(source: &SourceState) -> String {
    let (class, state, duration, age) = match &source.last_run {
        None => ("", "not run yet", String::new(), String::new()),
        Some(run) => {
            let (class, state) = match run.outcome {
                Outcome::Success => ("good", "ok"),
                Outcome::NoData => ("", "nothing to measure here"),
                Outcome::Failure => ("bad", "failed"),
            };
            (class, state, Span(run.duration).to_string(), format!("{} ago", Span(run.age)))
        }
    };
    let error = match (&source.remark, &source.last_error) {
        (Some(remark), _) => Escaped(remark).to_string(),
        (None, Some(error)) => format!("{} ({} ago)", Escaped(&error.message), Span(error.age)),
        (None, None) => String::new(),
    };
    format!(
        "<tr><td>{}</td><td class=\"{class}\">{state}</td><td>{duration}</td><td>{age}</td><td>{error}</td></tr>\n",
        Escaped(&source.name),
    )
}

/// Text that is no HTML.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                letter => write!(formatter, "{letter}")?,
            }
        }
        Ok(())
    }
}

/// A span of time as a person says it: the two largest units.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours) = (self.0.as_secs() / 86_400, self.0.as_secs() / 3_600 % 24);
        let (minutes, seconds) = (self.0.as_secs() / 60 % 60, self.0.as_secs() % 60);
        if days > 0 {
            write!(formatter, "{days} d {hours} h")
        } else if hours > 0 {
            write!(formatter, "{hours} h {minutes} min")
        } else if minutes > 0 {
            write!(formatter, "{minutes} min {seconds} s")
        } else if seconds > 0 {
            write!(formatter, "{:.1} s", self.0.as_secs_f64())
        } else if self.0.as_millis() > 0 {
            write!(formatter, "{:.1} ms", self.0.as_secs_f64() * 1e3)
        } else {
            write!(formatter, "{} µs", self.0.as_micros())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use expect_test::expect;
    use ring::digest::{SHA256, digest};

    use super::{CONTENT_SECURITY_POLICY, STYLE, Span, html, remote_write_section};
    use crate::server::app::{
        Attachment, Fact, Landing, Outcome, ProbeState, SourceError, SourceRun, SourceState,
    };

    #[test]
    fn the_policy_allows_the_style() {
        let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
        let policy = CONTENT_SECURITY_POLICY.to_str().unwrap().to_owned();
        assert!(policy.contains(&format!("style-src 'sha256-{style}';")), "{style}: {policy}");
    }

    #[test]
    fn spans() {
        let check = |duration, expected: &str| assert_eq!(Span(duration).to_string(), expected);
        check(Duration::ZERO, "0 µs");
        check(Duration::from_micros(999), "999 µs");
        check(Duration::from_micros(1_500), "1.5 ms");
        check(Duration::from_millis(2_040), "2.0 s");
        check(Duration::from_secs(61), "1 min 1 s");
        check(Duration::from_hours(1), "1 h 0 min");
        check(Duration::from_secs(90_061), "1 d 1 h");
    }

    fn busy_landing() -> Landing {
        let probe = |name: &str, attachment| ProbeState { name: name.to_owned(), attachment };
        let run = |millis, outcome| {
            let (duration, age) = (Duration::from_millis(millis), Duration::from_secs(7));
            Some(SourceRun { duration, age, outcome })
        };
        let source = |name: &str, last_run, last_error| SourceState {
            remark: (name == "cadvisor").then(|| "<remark>".to_owned()),
            name: name.to_owned(),
            last_run,
            last_error,
        };
        let bad = |name: &str, text: &str| {
            vec![Fact { name: name.to_owned(), text: text.to_owned(), is_well: false }]
        };
        Landing {
            version: "0.1.0".to_owned(),
            node_name: "<node> & \"co\"".to_owned(),
            kernel: "6.12.0-test".to_owned(),
            uptime: Duration::from_secs(3_700),
            busy: None,
            configuration: bad("refused", "<key>"),
            kubernetes: bad("pods forbidden", "<no>"),
            probes: vec![
                probe(
                    "cpu_throttle",
                    Attachment::Attached { hook: "fentry unthrottle_cfs_rq".to_owned() },
                ),
                probe("io_latency", Attachment::Absent { reason: "no BTF <vmlinux>".to_owned() }),
            ],
            sources: vec![
                source("cpu_stat", run(3, Outcome::Success), None),
                source("pressure", run(1, Outcome::NoData), None),
                source(
                    "kubelet",
                    run(250, Outcome::Failure),
                    Some(SourceError {
                        message: "it's <down>".to_owned(),
                        age: Duration::from_secs(7),
                    }),
                ),
                source("later", None, None),
            ],
            targets_from: "found".to_owned(),
            targets: vec![source("cadvisor", run(20, Outcome::Success), None)],
            remote_write: Vec::new(),
        }
    }

    #[test]
    fn receivers_are_shown_where_there_are_some() {
        assert_eq!(remote_write_section(&[]), "");
        let (name, text) = ("main".to_owned(), "last error: <no>".to_owned());
        expect![[r#"
            <h2>Remote write</h2>
            <div class="wide">
            <table>
            <tr><th>receiver</th><th>state</th></tr>
            <tr><td>main</td><td class="bad">last error: &lt;no&gt;</td></tr>
            </table>
            </div>
        "#]]
        .assert_eq(&remote_write_section(&[Fact { name, text, is_well: false }]));
    }

    #[test]
    fn everything_is_shown_and_escaped() {
        expect![[r#"
            <!DOCTYPE html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width">
            <title>Podmeter on &lt;node&gt; &amp; &quot;co&quot;</title>
            <style>body{font-family:system-ui,sans-serif;line-height:1.4;max-width:72em;margin:1.5em auto;padding:0 1em;color:#222;background:#fff}h1{overflow-wrap:anywhere}h2{margin:1.5em 0 .5em}h3{margin:0 0 .3em;font-size:1em}.wide{overflow-x:auto}table{border-collapse:collapse}th,td{text-align:left;vertical-align:top;padding:.3em .8em .3em 0;border-bottom:1px solid #ddd}th{font-weight:600;color:#555}.wide td{white-space:nowrap}.wide td:last-child{white-space:normal;overflow-wrap:anywhere;min-width:14em}@media(max-width:40em){.wide td{white-space:normal}.wide td:last-child{min-width:9em}}.busy td:first-child{overflow-wrap:anywhere}.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}meter{width:4em}.busy{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30em),1fr));gap:1.5em}.busy table{width:100%}.good{color:#17642b}.bad{color:#a3120a}</style>
            </head>
            <body>
            <h1>Podmeter on &lt;node&gt; &amp; &quot;co&quot;</h1>
            <p>Version 0.1.0, kernel 6.12.0-test, up 1 h 1 min.</p>
            <ul>
            <li><a href="/metrics">/metrics</a>: the metrics of this node; <code>?job=</code>, <code>?collect[]=</code> and <code>?exclude[]=</code> choose a part</li>
            <li><a href="/healthz">/healthz</a>: whether Podmeter runs</li>
            <li><a href="/readyz">/readyz</a>: whether Podmeter is ready, or why not</li>
            </ul>
            <h2>Busiest</h2>
            <p>Two collections of <a href="/metrics">/metrics</a>, some seconds apart, will show who is busy.</p>
            <h2>Endpoint</h2>
            <p>None.</p>
            <h2>Configuration</h2>
            <div class="wide">
            <table>
            <tr><th>what</th><th>state</th></tr>
            <tr><td>refused</td><td class="bad">&lt;key&gt;</td></tr>
            </table>
            </div>
            <h2>Kubernetes API</h2>
            <div class="wide">
            <table>
            <tr><th>what</th><th>state</th></tr>
            <tr><td>pods forbidden</td><td class="bad">&lt;no&gt;</td></tr>
            </table>
            </div>
            <h2>Probes</h2>
            <div class="wide">
            <table>
            <tr><th>probe</th><th>state</th><th>hook, or why not</th></tr>
            <tr><td>cpu_throttle</td><td class="good">attached</td><td>fentry unthrottle_cfs_rq</td></tr>
            <tr><td>io_latency</td><td class="bad">absent</td><td>no BTF &lt;vmlinux&gt;</td></tr>
            </table>
            </div>
            <h2>Sources</h2>
            <div class="wide">
            <table>
            <tr><th>source</th><th>state</th><th>last duration</th><th>age</th><th>last error</th></tr>
            <tr><td>cpu_stat</td><td class="good">ok</td><td>3.0 ms</td><td>7.0 s ago</td><td></td></tr>
            <tr><td>pressure</td><td class="">nothing to measure here</td><td>1.0 ms</td><td>7.0 s ago</td><td></td></tr>
            <tr><td>kubelet</td><td class="bad">failed</td><td>250.0 ms</td><td>7.0 s ago</td><td>it&#39;s &lt;down&gt; (7.0 s ago)</td></tr>
            <tr><td>later</td><td class="">not run yet</td><td></td><td></td><td></td></tr>
            </table>
            </div>
            <h2>Targets</h2>
            <p>found.</p>
            <div class="wide">
            <table>
            <tr><th>job</th><th>state</th><th>last duration</th><th>age</th><th>remark, or last error</th></tr>
            <tr><td>cadvisor</td><td class="good">ok</td><td>20.0 ms</td><td>7.0 s ago</td><td>&lt;remark&gt;</td></tr>
            </table>
            </div>
            </body>
            </html>
        "#]].assert_eq(&html(&busy_landing(), &[]));
    }

    #[test]
    fn without_probes_and_sources_there_are_no_tables() {
        let landing = Landing {
            version: String::new(),
            node_name: String::new(),
            kernel: String::new(),
            uptime: Duration::ZERO,
            busy: None,
            configuration: Vec::new(),
            remote_write: Vec::new(),
            kubernetes: Vec::new(),
            probes: Vec::new(),
            sources: Vec::new(),
            targets_from: String::new(),
            targets: Vec::new(),
        };
        assert_eq!(html(&landing, &[]).matches("<p>None.</p>").count(), 6);
        assert!(!html(&landing, &[]).contains("<table>"));
    }
}
