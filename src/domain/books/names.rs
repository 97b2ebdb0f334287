//! Names that repeat in histories, held once.

use crate::domain::event::{Details, Event};
use std::{collections::HashSet, sync::Arc};

/// Names that repeat, held once. Bounded, so that names that never repeat do not pile up here.
#[derive(Default)]
pub(super) struct Names(HashSet<Arc<str>>);

impl Names {
    const COUNT_MAX: usize = 10_000;

    /// Every name in an event.
    pub(super) fn share_in(&mut self, event: &mut Event) {
        match event {
            Event::Submitted { details, .. } | Event::Initiated(details) => self.share_all(details),
            Event::Asked { ask, .. } => self.share(&mut ask.provider),
            Event::Answered(answered) => self.share(&mut answered.ask.provider),
            Event::Rerouted { answered, next } => {
                self.share(&mut answered.ask.provider);
                self.share(next);
            }
            Event::Settled(_)
            | Event::Captured { .. }
            | Event::Voided
            | Event::Expired
            | Event::Refunded { .. }
            | Event::Noted(_) => {}
        }
    }

    pub(super) fn share_all(&mut self, details: &mut Arc<Details>) {
        let details = Arc::make_mut(details);
        for name in [&mut details.merchant, &mut details.provider, &mut details.payment_method] {
            self.share(name);
        }
    }

    pub(super) fn share(&mut self, name: &mut Arc<str>) {
        match self.0.get(name) {
            Some(known) => *name = known.clone(),
            None if self.0.len() < Self::COUNT_MAX => {
                self.0.insert(name.clone());
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_repeats_is_held_once_and_so_many_are() {
        let mut names = Names::default();
        let mut is_held = |text: &str| {
            let [mut one, mut other] = [(); 2].map(|()| Arc::<str>::from(text));
            names.share(&mut one);
            names.share(&mut other);
            Arc::ptr_eq(&one, &other)
        };
        let last = (1..=Names::COUNT_MAX).filter(|number| is_held(&number.to_string())).last();
        assert_eq!(last, Some(Names::COUNT_MAX));
        assert!(!is_held("one more") && is_held("1"));
    }
}
