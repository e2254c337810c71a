//! deploy/dashboards/*.json: what Grafana takes, made of deploy/dashboards/dashboards.yaml.

use std::path::Path;

use expect_test::expect_file;
use serde_json::{Value, json};

const SOURCE: &str = include_str!("../../../deploy/dashboards/dashboards.yaml");

/// Panels side by side, and how wide and high each is, in Grafana's grid of 24.
const N_COLUMNS: u64 = 3;
const WIDTH: u64 = 24 / N_COLUMNS;
const HEIGHT: u64 = 8;

#[test]
fn dashboards_are_current() {
    let source: Value = serde_saphyr::from_str(SOURCE).expect("it is YAML");
    for description in source.as_array().expect("a list of dashboards") {
        let file = format!("{}.json", text(description, "file"));
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards").join(file);
        let json = serde_json::to_string_pretty(&dashboard(description)).expect("it is JSON");
        expect_file![path].assert_eq(&(json + "\n"));
    }
}

fn dashboard(description: &Value) -> Value {
    let uid = format!("podmeter-{}", text(description, "file"));
    json!({
        "uid": uid,
        "title": text(description, "title"),
        "description": text(description, "about"),
        "tags": ["podmeter"],
        "schemaVersion": 39,
        "editable": true,
        "graphTooltip": 1,
        "timezone": "",
        "time": { "from": "now-1h", "to": "now" },
        "refresh": "30s",
        "annotations": { "list": [] },
        "links": [{ "type": "dashboards", "title": "Podmeter", "tags": ["podmeter"], "asDropdown": true,
            "includeVars": true, "keepTime": true }],
        "templating": { "list": variables(description) },
        "panels": panels(description),
    })
}

fn variables(description: &Value) -> Vec<Value> {
    let mut all =
        vec![json!({ "name": "datasource", "type": "datasource", "query": "prometheus" })];
    for variable in list(description, "variables") {
        let name = text(variable, "name");
        let query = format!(
            "label_values({}{{{}}}, {name})",
            text(variable, "of"),
            text(variable, "where")
        );
        all.push(json!({
            "name": name,
            "type": "query",
            "datasource": datasource(),
            "definition": query,
            "query": { "query": query, "refId": name },
            "current": { "text": "All", "value": "$__all" },
            "multi": true,
            "includeAll": true,
            // Also what has no such label at all.
            "allValue": ".*",
            "refresh": 2,
            "sort": 1,
        }));
    }
    if description.get("filter") == Some(&json!(true)) {
        // Grafana puts what is chosen here into every query.
        all.push(
            json!({ "name": "filter", "type": "adhoc", "datasource": datasource(), "filters": [] }),
        );
    }
    all
}

fn panels(description: &Value) -> Vec<Value> {
    let mut all = Vec::new();
    let mut y = 0;
    for row in list(description, "rows") {
        let place = json!({ "x": 0, "y": y, "w": 24, "h": 1 });
        all.push(json!({ "id": all.len() + 1, "type": "row", "title": text(row, "title"), "collapsed": false,
            "gridPos": place, "panels": [] }));
        y += 1;
        let panels = list(row, "panels");
        for (one, idx) in panels.iter().zip(0..) {
            let (x, y) = (idx % N_COLUMNS * WIDTH, y + idx / N_COLUMNS * HEIGHT);
            let place = json!({ "x": x, "y": y, "w": WIDTH, "h": HEIGHT });
            let mut panel = panel(one, text(description, "where"));
            let fields = panel.as_object_mut().expect("an object");
            fields.extend([("id".into(), json!(all.len() + 1)), ("gridPos".into(), place)]);
            all.push(panel);
        }
        y += (panels.len() as u64).div_ceil(N_COLUMNS) * HEIGHT;
    }
    all
}

fn panel(description: &Value, selected: &str) -> Value {
    let kind = description.get("kind").map_or("timeseries", |kind| kind.as_str().expect("a word"));
    let unit = text(description, "unit");
    let (options, custom) = match kind {
        "heatmap" => (
            json!({ "calculate": false, "yAxis": { "unit": unit }, "legend": { "show": true },
                "color": { "mode": "scheme", "scheme": "Oranges", "exponent": 0.5, "steps": 64 } }),
            json!({}),
        ),
        "stat" => (json!({ "reduceOptions": { "calcs": ["lastNotNull"] } }), json!({})),
        "table" => (json!({ "showHeader": true }), json!({})),
        "timeseries" => (
            json!({ "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
                "tooltip": { "mode": "multi", "sort": "desc" } }),
            json!({ "lineWidth": 1, "fillOpacity": 10, "showPoints": "never" }),
        ),
        other => panic!("no such kind of panel: {other}"),
    };
    let mut targets = Vec::new();
    for (query, id) in list(description, "queries").iter().zip('A'..) {
        let format = match kind {
            "heatmap" | "table" => kind,
            _ => "time_series",
        };
        targets.push(json!({
            "refId": id,
            "datasource": datasource(),
            "expr": text(query, "expr").replace("$where", selected),
            "legendFormat": text(query, "legend"),
            "format": format,
            "instant": kind == "table",
            "range": kind != "table",
        }));
    }
    json!({
        "type": kind,
        "title": text(description, "title"),
        "description": text(description, "about"),
        "datasource": datasource(),
        "fieldConfig": { "defaults": { "unit": unit, "min": 0, "custom": custom }, "overrides": [] },
        "options": options,
        "targets": targets,
    })
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    let text = value.get(key).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no text {key}: {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {key}: {value}"))
}
