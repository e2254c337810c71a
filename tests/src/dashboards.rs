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
                let json = serde_json::from_str(&json).expect("it is JSON");
                all.push(Self { name: name.into_owned(), json });
            }
        }
        all
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
