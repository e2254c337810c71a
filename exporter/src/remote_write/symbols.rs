//! Names and values of labels by number: most of them stand in thousands of series. Pure.

use std::{collections::HashMap, sync::Arc};

/// A text by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Symbol(u32);

/// The labels of a series, `__name__` among them, by name.
pub(super) type SymbolPairs = Box<[(Symbol, Symbol)]>;

/// All texts that are in use.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    numbers: HashMap<Arc<str>, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    text: Arc<str>,
    n_uses: u32,
}

impl Symbols {
    /// The symbol of a text, which is in use once more.
    pub(super) fn take(&mut self, text: &str) -> Symbol {
        if let Some(number) = self.numbers.get(text).copied() {
            if let Some(slot) = self.slots.get_mut(number as usize) {
                slot.n_uses = slot.n_uses.saturating_add(1);
            }
            return Symbol(number);
        }
        let text: Arc<str> = text.into();
        let slot = Slot { text: Arc::clone(&text), n_uses: 1 };
        let number = if let Some(number) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(number as usize) {
                *place = slot;
            }
            number
        } else {
            self.slots.push(slot);
            // There are fewer series than that, which have no more labels than a page.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        };
        self.numbers.insert(text, number);
        Symbol(number)
    }

    /// The labels as symbols, in the order that they come in.
    pub(super) fn take_all<'a>(
        &mut self,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> SymbolPairs {
        labels.into_iter().map(|(name, value)| (self.take(name), self.take(value))).collect()
    }

    /// The labels are in use once less.
    pub(super) fn give_back(&mut self, labels: &[(Symbol, Symbol)]) {
        for (name, value) in labels {
            self.give_back_one(*name);
            self.give_back_one(*value);
        }
    }

    fn give_back_one(&mut self, Symbol(number): Symbol) {
        let Some(slot) = self.slots.get_mut(number as usize) else {
            return;
        };
        slot.n_uses = slot.n_uses.saturating_sub(1);
        if slot.n_uses == 0 {
            self.numbers.remove(&slot.text);
            slot.text = Arc::from("");
            self.free.push(number);
        }
    }

    /// The text.
    pub(super) fn text(&self, Symbol(number): Symbol) -> &str {
        self.slots.get(number as usize).map_or("", |slot| &slot.text)
    }

    /// How many texts are in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    #[test]
    fn a_text_is_kept_as_long_as_it_is_in_use() {
        let mut symbols = Symbols::default();
        let one = symbols.take_all([("a", "b"), ("c", "b")]);
        let other = symbols.take_all([("a", "d")]);
        assert_eq!(symbols.len(), 4);
        assert_eq!(one[0].1, one[1].1);
        assert_eq!(one[0].0, other[0].0);
        symbols.give_back(&one);
        assert_eq!(symbols.len(), 2);
        assert_eq!((symbols.text(other[0].0), symbols.text(other[0].1)), ("a", "d"));
        // Numbers are used again.
        let third = symbols.take_all([("e", "f")]);
        assert_eq!(symbols.slots.len(), 4);
        assert_eq!((symbols.text(third[0].0), symbols.text(third[0].1)), ("e", "f"));
    }
}
