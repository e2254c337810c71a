//! Merges Podmeter's own families and those of all targets into one page, by an index of byte ranges. Pure.
//!
//! Each name is one family, each sample's name belongs to one family, no two series are equal, and the series of one
//! histogram come from one source. Nothing is copied but what two sources do not agree about.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    ops::Range,
    sync::Arc,
};

use super::{
    PageFamily,
    relayed::{FamilyMeta, Group, Line as PageLine, RelayedPage, Run, SeriesHasher},
};
use crate::{
    metric::FamilyType,
    source::upstream::exposition::{Dialect, Line, Reader, parse_series},
};

/// A family of the page, from all of its sources.
#[derive(Clone, Debug, PartialEq)]
pub struct MergedFamily {
    /// Name, type and texts.
    pub meta: Arc<FamilyMeta>,
    /// The place of Podmeter's own family of that name.
    pub own: Option<usize>,
    /// The lines of targets.
    pub parts: Vec<Part>,
}

/// Successive lines of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The target's place.
    pub page: usize,
    /// The lines' places.
    pub lines: Range<usize>,
}

/// What the families became.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) families: Vec<MergedFamily>,
    /// Samples that were left out.
    pub(super) n_settled: usize,
    /// Families that their sources give different types.
    pub(super) n_type_conflicts: usize,
}

/// One family before its sources have agreed.
#[derive(Debug, Default)]
struct Draft {
    own: Option<usize>,
    metas: Vec<Arc<FamilyMeta>>,
    parts: Vec<Part>,
}

type Drafts = BTreeMap<Arc<str>, Draft>;

/// Merges; `own` has each name once. Lines of targets may be regrouped, their bytes stay.
pub(super) fn merge(
    own: &[PageFamily],
    relayed: &mut [RelayedPage],
    hasher: &SeriesHasher,
) -> Merged {
    let mut merged = Merged::default();
    let mut drafts = draft(own, relayed);
    let torn = torn_apart(&drafts);
    if !torn.is_empty() {
        merged.n_type_conflicts = torn.len();
        for page in relayed.iter_mut() {
            merged.n_settled += tear_apart(page, &torn, &drafts, own, hasher);
        }
        drafts = draft(own, relayed);
    }
    for draft in drafts.into_values() {
        let parts = if draft.n_sources() > 1 {
            settle(&draft, own, relayed, hasher, &mut merged.n_settled)
        } else {
            draft.parts
        };
        let (meta, is_agreed) = agreed(&draft.metas);
        merged.n_type_conflicts += usize::from(!is_agreed);
        merged.families.extend(meta.map(|meta| MergedFamily { meta, own: draft.own, parts }));
    }
    merged.families.retain(|family| family.own.is_some() || !family.parts.is_empty());
    merged
}

fn draft(own: &[PageFamily], relayed: &[RelayedPage]) -> Drafts {
    let mut drafts = Drafts::new();
    for (idx, family) in own.iter().enumerate() {
        let meta = FamilyMeta {
            name: family.desc.name.into(),
            family_type: family.desc.kind.into(),
            help: family.desc.help.into(),
            unit: family.desc.unit.into(),
        };
        let draft = drafts.entry(Arc::clone(&meta.name)).or_default();
        draft.own = Some(idx);
        draft.metas.push(Arc::new(meta));
    }
    for (page_idx, page) in relayed.iter().enumerate() {
        let mut start = 0;
        for (meta, lines) in page.families() {
            let draft = drafts.entry(Arc::clone(&meta.name)).or_default();
            draft.metas.push(Arc::clone(meta));
            let end = start + lines.len();
            draft.parts.push(Part { page: page_idx, lines: start..end });
            start = end;
        }
    }
    drafts
}

impl Draft {
    fn n_sources(&self) -> usize {
        let mut pages: Vec<usize> = self.parts.iter().map(|part| part.page).collect();
        pages.dedup();
        pages.len() + usize::from(self.own.is_some())
    }
}

/// The common description, if there is any, and whether all sources agree about the type. Who says none agrees to all.
fn agreed(metas: &[Arc<FamilyMeta>]) -> (Option<Arc<FamilyMeta>>, bool) {
    let Some(first) = metas.first() else {
        return (None, true);
    };
    let types = metas.iter().map(|meta| meta.family_type);
    let mut types_said: Vec<FamilyType> =
        types.filter(|said| *said != FamilyType::Unknown).collect();
    types_said.sort_unstable();
    types_said.dedup();
    let family_type = match types_said.as_slice() {
        [family_type] => *family_type,
        _ => FamilyType::Unknown,
    };
    let first_text = |text: fn(&FamilyMeta) -> &String| {
        metas.iter().map(|meta| text(meta)).find(|text| !text.is_empty()).cloned()
    };
    let help = first_text(|meta| &meta.help).unwrap_or_default();
    let unit = first_text(|meta| &meta.unit).unwrap_or_default();
    let is_first = family_type == first.family_type && help == first.help && unit == first.unit;
    let meta = if is_first {
        Arc::clone(first)
    } else {
        Arc::new(FamilyMeta { name: Arc::clone(&first.name), family_type, help, unit })
    };
    (Some(meta), types_said.len() < 2)
}

/// The names of histograms and summaries that are something else elsewhere, or one of whose samples' names is another
/// family: they fall apart into their samples' names, without a type.
fn torn_apart(drafts: &Drafts) -> HashSet<Arc<str>> {
    let is_torn = |(name, draft): &(&Arc<str>, &Draft)| {
        let suffixes = draft.metas.iter().flat_map(|meta| meta.family_type.suffixes());
        let mut suffixes: Vec<_> = suffixes.collect();
        suffixes.sort_unstable();
        suffixes.dedup();
        let mut types: Vec<FamilyType> = draft.metas.iter().map(|meta| meta.family_type).collect();
        types.sort_unstable();
        types.dedup();
        let is_claimed = |suffix: &&str| drafts.contains_key(&*format!("{name}{suffix}"));
        !suffixes.is_empty()
            && (types.len() > 1 || suffixes.iter().any(|suffix| is_claimed(suffix)))
    };
    drafts.iter().filter(is_torn).map(|(name, _)| Arc::clone(name)).collect()
}

/// Regroups the lines of families that fall apart by the names of their samples. Where Podmeter itself has such a family,
/// its own is whole and the target's lines are left out; says how many samples those were.
fn tear_apart(
    page: &mut RelayedPage,
    torn: &HashSet<Arc<str>>,
    drafts: &Drafts,
    own: &[PageFamily],
    hasher: &SeriesHasher,
) -> usize {
    // Samples of an own histogram that others have, too.
    let is_own = |name: &str| {
        own.iter().filter(|family| torn.contains(family.desc.name)).any(|family| {
            let suffixes = FamilyType::from(family.desc.kind).suffixes();
            let suffix = name.strip_prefix(family.desc.name);
            suffix.is_some_and(|suffix| suffix.is_empty() || suffixes.contains(&suffix))
        })
    };
    let mut n_settled = 0;
    let mut kept: Vec<(Arc<FamilyMeta>, Vec<PageLine>)> = Vec::new();
    let mut by_name: BTreeMap<Arc<str>, Vec<PageLine>> = BTreeMap::new();
    for (meta, lines) in page.families() {
        if is_own(&meta.name) {
            n_settled += lines.iter().filter(|line| line.form.is_sample()).count();
        } else if torn.contains(&meta.name) {
            for line in lines {
                let Some((name, group)) = sample(page.line(*line), hasher) else { continue };
                if is_own(&name) {
                    n_settled += usize::from(line.form.is_sample());
                } else {
                    by_name.entry(name.into()).or_default().push(PageLine { group, ..*line });
                }
            }
        } else {
            kept.push((Arc::clone(meta), lines.to_vec()));
        }
    }
    for (name, lines) in by_name {
        let help = drafts.get(&name).and_then(|draft| draft.metas.first());
        let help = help.map(|meta| meta.help.clone()).unwrap_or_default();
        let family_type = FamilyType::Unknown;
        kept.push((Arc::new(FamilyMeta { name, family_type, help, unit: String::new() }), lines));
    }
    page.lines.clear();
    page.runs.clear();
    for (family, lines) in kept {
        page.runs.push(Run { family, n_lines: lines.len() });
        page.lines.extend(lines);
    }
    n_settled
}

/// The name of a line's sample, and the fingerprint of its series.
fn sample(line: &[u8], hasher: &SeriesHasher) -> Option<(String, Group)> {
    let Ok(Line::Sample { series, .. }) = Reader::new(line, Dialect::OpenMetrics).next_line()?
    else {
        return None;
    };
    let parts = parse_series(series).ok()?;
    let labels = parts.labels.iter().filter(|(_, value)| !value.is_empty());
    let labels = labels.map(|(name, value)| (name.as_ref(), value.as_ref()));
    let group = hasher.group(&parts.name, labels);
    Some((parts.name.into_owned(), group))
}

/// Leaves out what an earlier source has already, and gives what is left.
fn settle(
    draft: &Draft,
    own: &[PageFamily],
    relayed: &[RelayedPage],
    hasher: &SeriesHasher,
    n_settled: &mut usize,
) -> Vec<Part> {
    /// The source that is Podmeter itself.
    const OWN: usize = usize::MAX;

    let mut owners: HashMap<Group, usize> = HashMap::new();
    if let Some(family) = draft.own.and_then(|idx| own.get(idx)) {
        let name = family.desc.name;
        owners.extend(
            family.series.iter().map(|series| (hasher.group(name, series.labels.iter()), OWN)),
        );
    }
    let mut settled = Vec::with_capacity(draft.parts.len());
    for part in &draft.parts {
        let lines = relayed.get(part.page).and_then(|page| page.lines.get(part.lines.clone()));
        let mut is_kept = true;
        let mut kept = part.lines.start..part.lines.start;
        for line in lines.unwrap_or_default() {
            if line.form.is_sample() {
                is_kept = *owners.entry(line.group).or_insert(part.page) == part.page;
                *n_settled += usize::from(!is_kept);
            }
            if is_kept {
                kept.end += 1;
            } else {
                let next = kept.end + 1;
                settled.push(Part { page: part.page, lines: mem::replace(&mut kept, next..next) });
            }
        }
        settled.push(Part { page: part.page, lines: kept });
    }
    settled.retain(|part| !part.lines.is_empty());
    settled
}

#[cfg(test)]
mod tests;
