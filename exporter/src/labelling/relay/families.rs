//! The families of one target: their types and texts, and which of them a sample belongs to.

use std::{collections::HashMap, sync::Arc};

use crate::{metric::FamilyType, page::relayed::FamilyMeta, source::upstream::exposition::Dialect};

/// Most families of one target; a kubelet has some 250. Samples of further ones are dropped and counted.
const MAX_FAMILIES: usize = 16_384;

/// A family's place.
pub(super) type FamilyIdx = u32;

/// All families that the target had since its table was last cleared.
#[derive(Debug, Default)]
pub(super) struct Families {
    rows: Vec<FamilyRow>,
    by_name: HashMap<Arc<str>, FamilyIdx>,
    /// `OpenMetrics`' names of families whose samples have a suffix that text 0.0.4 counts to the name.
    aliases: HashMap<String, FamilyIdx>,
    generation: u32,
    scrape: u32,
}

#[derive(Debug)]
struct FamilyRow {
    meta: Arc<FamilyMeta>,
    /// Whether there was a sample of the family's very name, which a histogram has none of.
    has_bare_sample: bool,
    /// In which scrape it was last given a type, a help, a unit: the first word of a page holds.
    typed_in: u32,
    helped_in: u32,
    united_in: u32,
}

/// What became of a line of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    /// It holds, or says what was said.
    Agreed,
    /// The page said something else before, which holds.
    Conflict,
    /// There is no room for another family.
    NoRoom,
}

impl Families {
    /// Begins another page.
    pub(super) fn begin(&mut self, scrape: u32) {
        self.scrape = scrape;
    }

    /// Forgets all families.
    pub(super) fn clear(&mut self) {
        let generation = self.generation.wrapping_add(1);
        *self = Self { generation, scrape: self.scrape, ..Self::default() };
    }

    /// Rises whenever a sample may belong to another family than before.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Whether there is no room for another one.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= MAX_FAMILIES
    }

    /// What is known of a family.
    pub(super) fn meta(&self, idx: FamilyIdx) -> Option<&Arc<FamilyMeta>> {
        self.rows.get(idx as usize).map(|row| &row.meta)
    }

    /// Takes a `# TYPE` line.
    pub(super) fn declare_type(
        &mut self,
        given: &str,
        family_type: FamilyType,
        dialect: Dialect,
    ) -> Declared {
        let suffix = match (dialect, family_type) {
            (Dialect::OpenMetrics, FamilyType::Counter) => "_total",
            (Dialect::OpenMetrics, FamilyType::Info) => "_info",
            _ => "",
        };
        let Some(idx) = self.find_or_add(&format!("{given}{suffix}"), FamilyType::Unknown) else {
            return Declared::NoRoom;
        };
        if !suffix.is_empty() {
            self.add_alias(given, idx);
        }
        let scrape = self.scrape;
        let Some(row) = self.rows.get_mut(idx as usize) else {
            return Declared::NoRoom;
        };
        let is_first = row.typed_in != scrape;
        let is_same = row.meta.family_type == family_type;
        row.typed_in = scrape;
        match (is_first, is_same) {
            (_, true) => Declared::Agreed,
            (false, false) => Declared::Conflict,
            (true, false) => {
                let name = Arc::clone(&row.meta.name);
                let changed = row.meta.family_type != FamilyType::Unknown;
                // A histogram has none of that name, and the quantiles of a summary are equal as numbers.
                let takes_bare_otherwise =
                    matches!(family_type, FamilyType::Histogram | FamilyType::Summary);
                let is_otherwise = takes_bare_otherwise && row.has_bare_sample;
                row.meta = Arc::new(FamilyMeta { family_type, ..FamilyMeta::clone(&row.meta) });
                let suffixes = family_type.suffixes();
                let claims = |suffix: &&str| self.by_name.contains_key(&*format!("{name}{suffix}"));
                if changed || is_otherwise || suffixes.iter().any(claims) {
                    self.generation = self.generation.wrapping_add(1);
                }
                Declared::Agreed
            }
        }
    }

    /// Takes a `# HELP` line.
    pub(super) fn declare_help(&mut self, given: &str, help: &str) -> Declared {
        let scrape = self.scrape;
        let Some(row) = self.declared(given) else {
            return Declared::NoRoom;
        };
        let is_first = row.helped_in != scrape;
        row.helped_in = scrape;
        if row.meta.help == help {
            return Declared::Agreed;
        }
        if !is_first {
            return Declared::Conflict;
        }
        row.meta = Arc::new(FamilyMeta { help: help.into(), ..FamilyMeta::clone(&row.meta) });
        Declared::Agreed
    }

    /// Takes a `# UNIT` line.
    pub(super) fn declare_unit(&mut self, given: &str, unit: &str) -> Declared {
        let scrape = self.scrape;
        let Some(row) = self.declared(given) else {
            return Declared::NoRoom;
        };
        let is_first = row.united_in != scrape;
        row.united_in = scrape;
        if row.meta.unit == unit {
            return Declared::Agreed;
        }
        if !is_first {
            return Declared::Conflict;
        }
        row.meta = Arc::new(FamilyMeta { unit: unit.into(), ..FamilyMeta::clone(&row.meta) });
        Declared::Agreed
    }

    /// The family of a sample by its name; nothing if there is no room for another one.
    pub(super) fn of_sample(&mut self, name: &str) -> Option<FamilyIdx> {
        let exact = self.by_name.get(name).copied();
        if let Some(row) = exact.and_then(|idx| self.rows.get_mut(idx as usize)) {
            row.has_bare_sample = true;
        }
        let is_typed = |idx: &FamilyIdx| {
            self.meta(*idx).is_some_and(|meta| meta.family_type != FamilyType::Unknown)
        };
        if let Some(idx) = exact.filter(is_typed) {
            return Some(idx);
        }
        if let Some(idx) = self.of_suffixed(name).or(exact) {
            return Some(idx);
        }
        let idx = self.find_or_add(name, FamilyType::Unknown)?;
        self.rows.get_mut(idx as usize)?.has_bare_sample = true;
        Some(idx)
    }

    /// The family of a sample that rules gave another name: the old one's type and help under the new name.
    pub(super) fn of_renamed(
        &mut self,
        old: FamilyIdx,
        old_name: &str,
        name: &str,
    ) -> Option<FamilyIdx> {
        let meta = Arc::clone(self.meta(old)?);
        let suffix = old_name.strip_prefix(&*meta.name).unwrap_or_default();
        let base = name.strip_suffix(suffix).filter(|base| !base.is_empty());
        let Some(base) = base.filter(|base| !self.by_name.contains_key(*base)) else {
            return self.of_sample(name);
        };
        let idx = self.find_or_add(base, meta.family_type)?;
        let row = self.rows.get_mut(idx as usize)?;
        row.has_bare_sample |= suffix.is_empty();
        let name = Arc::clone(&row.meta.name);
        row.meta = Arc::new(FamilyMeta { name, ..FamilyMeta::clone(&meta) });
        Some(idx)
    }

    /// Lets later lines of metadata find the family by `OpenMetrics`' name; a help that came before the type moves over.
    fn add_alias(&mut self, given: &str, idx: FamilyIdx) {
        if self.aliases.len() < MAX_FAMILIES && !self.aliases.contains_key(given) {
            self.aliases.insert(given.into(), idx);
        }
        let namesake = self.by_name.get(given).and_then(|idx| self.meta(*idx)).map(Arc::clone);
        if let Some(namesake) = namesake
            && let Some(row) = self.rows.get_mut(idx as usize)
            && row.meta.help.is_empty()
        {
            let FamilyMeta { help, unit, .. } = FamilyMeta::clone(&namesake);
            row.meta = Arc::new(FamilyMeta { help, unit, ..FamilyMeta::clone(&row.meta) });
        }
    }

    fn of_suffixed(&self, name: &str) -> Option<FamilyIdx> {
        ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let idx = *self.by_name.get(name.strip_suffix(suffix)?)?;
            let family_type = self.meta(idx)?.family_type;
            family_type.suffixes().contains(suffix).then_some(idx)
        })
    }

    fn declared(&mut self, given: &str) -> Option<&mut FamilyRow> {
        let idx = match self.aliases.get(given) {
            Some(idx) => *idx,
            None => self.find_or_add(given, FamilyType::Unknown)?,
        };
        self.rows.get_mut(idx as usize)
    }

    fn find_or_add(&mut self, name: &str, family_type: FamilyType) -> Option<FamilyIdx> {
        if let Some(idx) = self.by_name.get(name) {
            return Some(*idx);
        }
        if self.is_full() {
            return None;
        }
        let idx = FamilyIdx::try_from(self.rows.len()).ok()?;
        let name: Arc<str> = name.into();
        let never = self.scrape.wrapping_sub(1);
        self.rows.push(FamilyRow {
            meta: Arc::new(FamilyMeta {
                name: Arc::clone(&name),
                family_type,
                help: String::new(),
                unit: String::new(),
            }),
            has_bare_sample: false,
            typed_in: never,
            helped_in: never,
            united_in: never,
        });
        self.by_name.insert(name, idx);
        Some(idx)
    }
}
