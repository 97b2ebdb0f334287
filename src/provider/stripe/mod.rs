//! Stripe: a payment is a PaymentIntent, what is given back a Refund.
//!
//! The payment's line asks here, on the provider's own thread. Every object carries our names for the attempt and the
//! payment in its metadata: by them it is found again, and events lead to the payment. Nothing is ever asked for twice
//! by itself, no payment is left waiting for a customer who is not there, and what is not certain is unknown.
//!
//! `client` sends a request, `reply` judges what comes back, `objects` says what Stripe's objects mean, `amounts` how
//! it counts, `events` what its messages say, `signature` whether they are its own.

mod amounts;
mod client;
mod events;
#[cfg(feature = "fault-injection")]
pub mod fuzzing;
mod objects;
mod reply;
mod signature;

#[cfg(test)]
mod tests;

use super::{
    Answer, Answering, Call, Message, News, NotRead, Provider, Reading, Terms, answer_of,
    answer_of_refund,
};
use crate::domain::{
    event::{Action, CaptureMode, Decline},
    id::PaymentId,
    money::Amount,
};
use client::{NotGot, Wire};
use events::Told;
use objects::{Id, Intent, IntentStatus, Page, Refund};
use reply::Refused;
use rustls::ClientConfig;
use std::{fmt, sync::Arc, time::Duration};

const INTENTS: &str = "/v1/payment_intents";
const REFUNDS: &str = "/v1/refunds";
/// The most objects that a page of a list holds.
const PAGE_OBJECTS: &str = "100";
/// The most pages of a list that are read to find one object.
const PAGES_MAX: u8 = 10;
/// How far the search may be behind, at the worst (docs.stripe.com/search).
const SEARCH_BEHIND_MAX: Duration = Duration::from_secs(60 * 60);
/// How far Stripe's clock may be behind ours, in seconds.
const CLOCKS_APART_S: u64 = 300;

/// Where Stripe is and who we are to it.
#[derive(Clone)]
pub struct Settings {
    /// Such as `https://api.stripe.com`.
    pub url: String,
    /// The key that every call shows.
    pub secret_key: Box<str>,
    /// What Stripe signs its own messages with, the whole text; `None`: none is believed.
    pub webhook_secret: Option<Box<str>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Settings");
        shown.field("url", &self.url).finish_non_exhaustive()
    }
}

/// See the module. It belongs to the thread that made it.
pub struct Stripe {
    wire: Wire,
}

/// The objects of a list that an attempt made.
struct Made {
    ids: Vec<Id>,
    /// Whether the list was read to its end.
    whole: bool,
}

impl Stripe {
    /// What Stripe promises: keys are kept for at least 24 hours (docs.stripe.com/api/idempotent_requests).
    pub const TERMS: Terms =
        Terms { key_window: Duration::from_secs(24 * 60 * 60), looks_up: true };

    /// Stripe, over at most so many connections at once; a call beyond them waits for one.
    #[must_use]
    pub fn new(settings: Settings, tls: Arc<ClientConfig>, connections_max: usize) -> Self {
        Self { wire: Wire::new(settings, tls, connections_max) }
    }

    async fn authorized(&self, call: &Call) -> Result<Answer, Answer> {
        let details = &call.details;
        let amount = asked(call, details.amount)?;
        let (attempt, payment) = (call.attempt.to_string(), details.id.to_string());
        let form = [
            ("amount", &*amount),
            ("currency", &details.currency.code().to_ascii_lowercase()),
            ("payment_method", &details.payment_method),
            ("payment_method_types[0]", "card"),
            ("capture_method", details.capture.name()),
            ("confirm", "true"),
            ("metadata[strongroom_attempt]", &attempt),
            ("metadata[strongroom_payment]", &payment),
        ];
        let heard = self.wire.post(INTENTS, &attempt, &form).await;
        match reply::object::<Intent>(call.action, heard) {
            Ok(intent) => Ok(self.concluded(call, &intent).await),
            Err(refused) => self.refused(call, refused).await,
        }
    }

    async fn captured(&self, call: &Call, amount: Amount) -> Result<Answer, Answer> {
        let amount = asked(call, amount)?;
        self.changed(call, "capture", &[("amount_to_capture", &amount)]).await
    }

    /// Asks for a change of the call's PaymentIntent.
    async fn changed(
        &self,
        call: &Call,
        change: &str,
        form: &[(&str, &str)],
    ) -> Result<Answer, Answer> {
        let path = format!("{INTENTS}/{}/{change}", call.reference);
        let heard = self.wire.post(&path, &call.attempt.to_string(), form).await;
        match reply::object::<Intent>(call.action, heard).map(|intent| said(call, &intent)) {
            Ok(Answer::Absent) => {
                Err(Answer::unknown("the provider accepted it, and still holds the money"))
            }
            Ok(answer) => Ok(answer),
            Err(refused) => self.refused(call, refused).await,
        }
    }

    async fn refunded(&self, call: &Call, amount: Amount) -> Result<Answer, Answer> {
        let amount = asked(call, amount)?;
        let (attempt, payment) = (call.attempt.to_string(), call.details.id.to_string());
        let form = [
            ("payment_intent", &*call.reference),
            ("amount", &amount),
            ("metadata[strongroom_attempt]", &attempt),
            ("metadata[strongroom_payment]", &payment),
        ];
        let heard = self.wire.post(REFUNDS, &attempt, &form).await;
        match reply::object::<Refund>(call.action, heard) {
            Ok(refund) => Ok(said_of_refund(call, &refund)),
            Err(refused) => self.refused(call, refused).await,
        }
    }

    /// What a refusal comes to: that nothing was done, unless the PaymentIntent is where the call would have led it.
    async fn refused(&self, call: &Call, refused: Refused) -> Result<Answer, Answer> {
        let reason = match refused {
            Refused::Answer(answer) => return Ok(answer),
            Refused::AsItStands(reason) => reason,
        };
        Ok(match self.standing(call).await? {
            Answer::Absent => Answer::Declined { decline: Decline::ProviderRejected, code: reason },
            Answer::Declined { decline, code } if code.is_empty() => {
                Answer::Declined { decline, code: reason }
            }
            answer => answer,
        })
    }

    /// What the PaymentIntent that a capture or a void is about says of it.
    async fn standing(&self, call: &Call) -> Result<Answer, Answer> {
        Ok(said(call, &self.intent(&call.reference).await?))
    }

    /// What a PaymentIntent says of the authorization that made it. One that waits for somebody is cancelled first: no
    /// customer is there to authenticate, and nothing may be taken once the payment counts as declined.
    async fn concluded(&self, call: &Call, intent: &Intent) -> Answer {
        let Some((decline, code)) = intent.stuck() else { return said(call, intent) };
        if intent.metadata().contradicts(call.attempt) {
            return said(call, intent);
        }
        let path = format!("{INTENTS}/{}/cancel", &*intent.id);
        let heard = self.wire.post(&path, &format!("{}_cancel", call.attempt), &[]).await;
        match reply::object::<Intent>(call.action, heard) {
            Ok(cancelled) if cancelled.status == IntentStatus::Canceled => {
                Answer::Declined { decline, code: code.into() }
            }
            _ => {
                let intent = &*intent.id;
                tracing::warn!(
                    intent,
                    code,
                    "a payment that waits for its customer was not cancelled"
                );
                Answer::unknown(format!("{intent} is at {code}, and was not cancelled"))
            }
        }
    }

    /// Finds the PaymentIntent of an authorization. The search is behind by a minute, and by up to an hour when Stripe
    /// has an outage (docs.stripe.com/search), so what it does not find is looked for in the list, which is not. Where
    /// a search finds it, it is still read: what is indexed of it may be old. If the list is too long to be read to its end,
    /// a search that finds nothing counts once it can't be behind any more.
    async fn find_intent(&self, call: &Call) -> Result<Answer, Answer> {
        let query = format!("metadata['strongroom_attempt']:'{}'", call.attempt);
        let searched = match self.page(&format!("{INTENTS}/search"), &[("query", &query)]).await {
            Ok(page) => Some(made(call, page)),
            Err(NotGot::Refused(_)) => None,
            Err(not_got) => return Err(not_got.into()),
        };
        let searched_all = searched.is_some() && call.quiet_for >= SEARCH_BEHIND_MAX;
        let found = match searched {
            Some(ids) if !ids.is_empty() => Made { ids, whole: true },
            searched => match self.list_intents(call).await {
                Ok(listed) => Made { whole: listed.whole || searched_all, ..listed },
                // There is only the search.
                Err(NotGot::Refused(_)) if searched.is_some() => {
                    Made { ids: vec![], whole: searched_all }
                }
                Err(not_got) => return Err(not_got.into()),
            },
        };
        match found.only(call)? {
            Some(id) => Ok(self.concluded(call, &self.intent(&id).await?).await),
            None => Ok(Answer::Absent),
        }
    }

    async fn list_intents(&self, call: &Call) -> Result<Made, NotGot> {
        let since = (call.began.millis() / 1000).saturating_sub(CLOCKS_APART_S).to_string();
        match self.list(call, INTENTS, &[("created[gte]", &since)]).await {
            // A server that can't list by time: all there are, then.
            Err(NotGot::Refused(_)) => self.list(call, INTENTS, &[]).await,
            listed => listed,
        }
    }

    async fn find_refund(&self, call: &Call) -> Result<Answer, Answer> {
        let made = self.list(call, REFUNDS, &[("payment_intent", &call.reference)]).await?;
        let Some(id) = made.only(call)? else { return Ok(Answer::Absent) };
        let refund = self.wire.get::<Refund>(&format!("{REFUNDS}/{}", &*id), &[]).await?;
        Ok(said_of_refund(call, &refund))
    }

    /// Goes through a list for what the call's attempt made.
    async fn list(&self, call: &Call, path: &str, query: &[(&str, &str)]) -> Result<Made, NotGot> {
        let (mut ids, mut after) = (Vec::new(), None::<Id>);
        for _ in 0..PAGES_MAX {
            let mut query = query.to_vec();
            query.extend(after.as_deref().map(|id| ("starting_after", id)));
            let page = self.page(path, &query).await?;
            let more = page.has_more;
            after = page.data.last().map(|last| last.id.clone());
            ids.extend(made(call, page));
            if !more || after.is_none() {
                return Ok(Made { ids, whole: !more });
            }
        }
        Ok(Made { ids, whole: false })
    }

    async fn page(&self, path: &str, query: &[(&str, &str)]) -> Result<Page, NotGot> {
        let mut query = query.to_vec();
        query.push(("limit", PAGE_OBJECTS));
        self.wire.get(path, &query).await
    }

    async fn intent(&self, id: &str) -> Result<Intent, NotGot> {
        self.wire.get(&format!("{INTENTS}/{id}"), &[]).await
    }

    async fn news(&self, message: &Message) -> Result<Vec<News>, NotRead> {
        let (header, body) = (&*message.signature, &*message.body);
        let now_s = message.at.millis() / 1000;
        let proves = |secret| signature::proves(secret, header, body, now_s);
        if !self.wire.webhook_secret().is_some_and(proves) {
            return Err(NotRead::Unproven);
        }
        match events::parse(body)? {
            Told::Charge(event, intent) => Ok(vec![events::of_charge(&event, &intent)?]),
            Told::Refund(event, refund) => {
                let payment = match refund.metadata().payment() {
                    Some(payment) => Some(payment),
                    None => self.payment_of(&refund).await?,
                };
                Ok(vec![events::of_refund(&event, &refund, payment)?])
            }
            Told::Nothing => Ok(Vec::new()),
        }
    }

    /// Which of our payments a refund is of that somebody made elsewhere.
    async fn payment_of(&self, refund: &Refund) -> Result<Option<PaymentId>, NotRead> {
        let Some(intent) = &refund.payment_intent else { return Ok(None) };
        match self.intent(intent).await {
            Ok(intent) => Ok(intent.metadata().payment()),
            Err(NotGot::Refused(_)) => Ok(None),
            Err(NotGot::Failed(why)) => {
                tracing::warn!(refund = &*refund.id, %why, "whose refund this is can't be told");
                Err(NotRead::Unavailable)
            }
        }
    }
}

/// An amount as Stripe counts it, in figures.
fn asked(call: &Call, amount: Amount) -> Result<String, Answer> {
    let counted = amounts::to_stripe(call.details.currency, amount.minor_units());
    let declined =
        |code: &str| Answer::Declined { decline: Decline::AmountUnsupported, code: code.into() };
    counted.map(|amount| amount.to_string()).map_err(|unsupported| declined(unsupported.code()))
}

/// What a PaymentIntent says of a call.
fn said(call: &Call, intent: &Intent) -> Answer {
    let id = &*intent.id;
    if call.action == Action::Authorize && intent.metadata().contradicts(call.attempt) {
        return Answer::unknown(format!("{id} was made by another attempt"));
    }
    let manual = call.details.capture == CaptureMode::Manual;
    match intent.state(Some(call.details.currency)) {
        Some(state) => answer_of(call.action, manual, id, &state),
        None => Answer::unknown(format!("how {id} stands can't be told")),
    }
}

fn said_of_refund(call: &Call, refund: &Refund) -> Answer {
    let id = &*refund.id;
    if refund.metadata().contradicts(call.attempt) {
        return Answer::unknown(format!("{id} was made by another attempt"));
    }
    match refund.state(Some(call.details.currency)) {
        Some((amount, state)) => answer_of_refund(id, amount, &state),
        None => Answer::unknown(format!("how {id} stands can't be told")),
    }
}

/// Those that the call's attempt made.
fn made(call: &Call, page: Page) -> Vec<Id> {
    let ours = page.data.into_iter().filter(|listed| listed.is_of(call.attempt));
    ours.map(|listed| listed.id).collect()
}

impl Made {
    /// The only one; `None` if it is certain that there is none.
    fn only(self, call: &Call) -> Result<Option<Id>, Answer> {
        match &*self.ids {
            [] if self.whole => Ok(None),
            [] => Err(Answer::unknown("the provider's list is too long to find it in")),
            [id] => Ok(Some(id.clone())),
            [one, other, ..] => {
                let (attempt, one, other) = (call.attempt, &**one, &**other);
                tracing::error!(%attempt, one, other, "Stripe did twice what was asked once");
                Err(Answer::unknown(format!("the provider did it twice: {one} and {other}")))
            }
        }
    }
}

impl From<NotGot> for Answer {
    fn from(not_got: NotGot) -> Self {
        match not_got {
            NotGot::Failed(why) => Self::unknown(why),
            NotGot::Refused(status) => {
                Self::unknown(format!("asked about it, the provider said HTTP {}", status.as_u16()))
            }
        }
    }
}

/// Either way it is the answer: an error is one that comes early.
fn answering<'a>(answer: impl Future<Output = Result<Answer, Answer>> + 'a) -> Answering<'a> {
    Box::pin(async move { answer.await.unwrap_or_else(|answer| answer) })
}

impl Provider for Stripe {
    fn terms(&self) -> Terms {
        Self::TERMS
    }

    fn authorize<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        answering(self.authorized(call))
    }

    fn capture<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a> {
        answering(self.captured(call, amount))
    }

    fn void<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        answering(self.changed(call, "cancel", &[]))
    }

    fn refund<'a>(&'a self, call: &'a Call, amount: Amount) -> Answering<'a> {
        answering(self.refunded(call, amount))
    }

    fn look_up<'a>(&'a self, call: &'a Call) -> Answering<'a> {
        match call.action {
            Action::Authorize => answering(self.find_intent(call)),
            Action::Capture { .. } | Action::Void | Action::Expire => {
                answering(self.standing(call))
            }
            Action::Refund { .. } => answering(self.find_refund(call)),
        }
    }

    fn read<'a>(&'a self, message: &'a Message) -> Reading<'a> {
        Box::pin(self.news(message))
    }
}
