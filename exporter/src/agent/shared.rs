//! Pages that several scrapers wait for at once: who asks for the same part gets the same collection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use tokio::sync;

use crate::{demand::Demand, page::Page};

/// The last page of one demand, and when its collection began; held while the next one is collected.
///
/// It is not kept alive for its own sake: what targets gave is large.
pub(super) type LastPage = Arc<sync::Mutex<Option<(Instant, Weak<Page>)>>>;

/// The last page of each demand that is waited for. There are no more of them than scrapes that run at once, which the
/// server bounds.
#[derive(Debug, Default)]
pub(super) struct SharedPages(Mutex<HashMap<Demand, LastPage>>);

impl SharedPages {
    /// The place of that demand's page; demands that nobody waits for any more are forgotten.
    pub(super) fn of(&self, demand: &Demand) -> LastPage {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|known, page| known == demand || Arc::strong_count(page) > 1);
        Arc::clone(pages.entry(demand.clone()).or_default())
    }
}

/// The page, if its collection began when somebody had asked already.
pub(super) fn begun_since(
    last: Option<&(Instant, Weak<Page>)>,
    asked: Instant,
) -> Option<Arc<Page>> {
    let (began, page) = last?;
    if *began >= asked { page.upgrade() } else { None }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{SharedPages, begun_since};
    use crate::{
        demand::{Demand, Offer},
        page::Page,
    };

    #[test]
    fn who_asks_for_the_same_part_waits_for_the_same_page() {
        let offer = Offer { sources: vec!["tcp", "oom"], jobs: Vec::new() };
        let part = |query| offer.demand(query).expect("it is on offer");
        let pages = SharedPages::default();
        let one = pages.of(&part("collect[]=tcp"));
        assert!(Arc::ptr_eq(&one, &pages.of(&part("exclude[]=oom"))));
        assert!(!Arc::ptr_eq(&one, &pages.of(&part("collect[]=oom"))));
        drop(one);
        pages.of(&Demand::default());
        assert_eq!(pages.0.lock().unwrap().len(), 1, "nobody waits for the others");
    }

    #[test]
    fn a_page_is_for_those_who_asked_before_it_was_begun() {
        let began = Instant::now();
        let page = Arc::new(Page::default());
        let last = (began, Arc::downgrade(&page));
        let millisecond = Duration::from_millis(1);
        assert!(begun_since(Some(&last), began).is_some());
        assert!(begun_since(Some(&last), began.checked_sub(millisecond).unwrap()).is_some());
        assert!(begun_since(Some(&last), began + millisecond).is_none());
        assert!(begun_since(None, began).is_none());
        drop(page);
        assert!(begun_since(Some(&last), began).is_none(), "it is not kept alive");
    }
}
