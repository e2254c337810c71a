//! The dashboards of deploy/, as Grafana reads them.

use std::{fs, path::Path};

use serde_json::Value;

/// A dashboard.
pub struct Dashboard {
    /// The name of its file without `.json`.
    pub name: String,
    /// What the file has.
    pub json: Value,
}

impl Dashboard {
    /// All that there are.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/dashboards");
        let files = fs::read_dir(folder).expect("the folder is there");
        let mut all = Vec::new();
        for file in files {
            let path = file.expect("its files are there").path();
            if path.extension().is_some_and(|end| end == "json") {
                let json = fs::read_to_string(&path).expect("it is UTF-8");
                let name = path.file_stem().expect("a file has a name").to_string_lossy();
                all.push(Self::parse(&name, &json));
            }
        }
        all
    }

    /// That of a file with this name and this text.
    #[must_use]
    pub fn parse(name: &str, json: &str) -> Self {
        Self { name: name.to_owned(), json: serde_json::from_str(json).expect("it is JSON") }
    }

    /// The queries of the panel with that title, as the file has them.
    #[must_use]
    pub fn queries(&self, title: &str) -> Vec<&str> {
        let panel = self.panels().find(|panel| text(panel, "/title") == title);
        let panel = panel.unwrap_or_else(|| panic!("{} has no panel {title}", self.name));
        list(panel, "/targets").iter().map(|target| text(target, "/expr")).collect()
    }

    /// The variables that one chooses from what Prometheus has: a selector, and the label whose values are the choices.
    pub fn choices(&self) -> impl Iterator<Item = (&str, &str)> {
        let variables = list(&self.json, "/templating/list").iter();
        variables.filter(|variable| text(variable, "/type") == "query").map(|variable| {
            let query = text(variable, "/definition");
            let query = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            query.and_then(|query| query.rsplit_once(", ")).expect("a selector and a label")
        })
    }

    /// The panels that ask for something.
    pub fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json, "/panels").iter().filter(|panel| text(panel, "/type") != "row")
    }
}

/// What Grafana puts in for all values of a variable.
pub const ALL: &str = ".*";

/// A query with what is chosen in place of its variables, as Grafana sends it.
///
/// A rate goes back by ten minutes: longer than a test takes.
pub fn filled<'a>(query: &str, chosen: impl Fn(&str) -> &'a str) -> String {
    let query = query.replace("$__rate_interval", "10m");
    let mut parts = query.split('$');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (variable, rest) = part.split_at(end.unwrap_or(part.len()));
        text.push_str(chosen(variable));
        text.push_str(rest);
    }
    text
}

/// A string in a dashboard.
#[must_use]
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let text = value.pointer(pointer).and_then(Value::as_str);
    text.unwrap_or_else(|| panic!("no text {pointer}: {value}"))
}

/// A list in a dashboard.
#[must_use]
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.unwrap_or_else(|| panic!("no list {pointer}: {value}"))
}
