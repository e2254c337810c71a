//! A page: the families that are served, with their final labels, merged and ordered. Pure.

use std::{borrow::Cow, sync::Arc};

use crate::metric::{Desc, Value};

/// Everything that one answer to a scrape says; families are in the order of their names, and no name stands twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The families.
    pub families: Vec<PageFamily>,
}

/// One family of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct PageFamily {
    /// Name, help, type and unit.
    pub desc: &'static Desc,
    /// Its series, in the order of their labels; no two have the same labels.
    pub series: Vec<Series>,
}

/// One series with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The labels, without `le`.
    pub labels: Labels,
    /// The number.
    pub value: Value,
}

/// Label names and values in the order of the names; no name stands twice, no value is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Vec<(Cow<'static, str>, Arc<str>)>);
