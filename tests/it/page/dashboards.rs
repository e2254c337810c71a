//! deploy/dashboards: Grafana finds what it needs in each, and no query asks for a name that no page has.

use std::collections::BTreeSet;

use podmeter_tests::{
    dashboards::{Dashboard, list, text},
    prometheus::Prometheus,
    tools::tool,
};

use super::queries::Vocabulary;

#[test]
fn dashboards_are_well_formed() {
    let mut uids = BTreeSet::new();
    for Dashboard { name: file, json: dashboard } in Dashboard::all() {
        assert!(uids.insert(text(&dashboard, "/uid").to_owned()), "{file}");
        let variables = list(&dashboard, "/templating/list").iter();
        let variables: BTreeSet<&str> = variables.map(|one| text(one, "/name")).collect();
        let (mut ids, mut titles, mut cells) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "/panels") {
            let title = text(panel, "/title");
            assert!(ids.insert(panel["id"].as_u64()), "{file}: {title}: the id is taken");
            assert!(titles.insert(title), "{file}: {title}: the title is taken");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| {
                panel["gridPos"][key].as_u64().unwrap_or_else(|| panic!("{file}: {title}: {key}"))
            });
            assert!(x + w <= 24, "{file}: {title} is beyond the right edge");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(cells.insert(cell), "{file}: {title} lies on another panel");
            }
            if text(panel, "/type") == "row" {
                continue;
            }
            assert!(text(panel, "/description").ends_with('.'), "{file}: {title}");
            assert!(!text(panel, "/fieldConfig/defaults/unit").is_empty(), "{file}: {title}");
            for target in list(panel, "/targets") {
                assert_eq!(text(target, "/datasource/uid"), "${datasource}");
                for name in names(text(target, "/expr")) {
                    let is_known = name == "__rate_interval" || variables.contains(name);
                    assert!(is_known, "{file}: {title}: there is no variable {name}");
                }
            }
        }
    }
    assert_eq!(uids.len(), 5);
}

#[test]
fn queries_ask_for_what_there_is() {
    let Some(prometheus) = tool("PODMETER_PROMETHEUS") else { return };
    let prometheus = Prometheus::with_config(&prometheus, "global: {}\n");
    let vocabulary = Vocabulary::read();
    let mut n_queries = 0;
    for dashboard in Dashboard::all() {
        for target in dashboard.panels().flat_map(|panel| list(panel, "/targets")) {
            let query = text(target, "/expr").replace("$__rate_interval", "5m");
            vocabulary.check_query(&prometheus, &query);
            n_queries += 1;
        }
        for (selector, label) in dashboard.choices() {
            vocabulary.check_query(&prometheus, &format!("group by ({label}) ({selector})"));
        }
    }
    println!("report: dashboards | queries {n_queries}");
}

/// What one proxy mode counts and the others do not, stands in a row of its own, and chooses nothing.
#[test]
fn kube_proxy_is_shown_in_every_mode() {
    let mut dashboards = Dashboard::all().into_iter();
    let dashboard = dashboards.find(|one| one.name == "kube-proxy").expect("it is there").json;
    let of_one_mode = |text: &str| text.contains("iptables") || text.contains("nftables");
    assert!(!of_one_mode(&dashboard["templating"].to_string()));
    let mut row = "";
    let mut n_of_one_mode = 0;
    for panel in list(&dashboard, "/panels") {
        if panel["type"] == "row" {
            row = text(panel, "/title");
        } else if of_one_mode(&panel["targets"].to_string()) {
            assert_eq!(row, "One mode", "{}", panel["title"]);
            n_of_one_mode += 1;
        }
    }
    assert_eq!(n_of_one_mode, 2);
}

/// The names of the variables in a query.
fn names(query: &str) -> Vec<&str> {
    let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
    let after = query.split('$').skip(1);
    after.map(|rest| rest.split(is_end).next().unwrap_or_default()).collect()
}
