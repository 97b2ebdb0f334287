//! What happens around every request, on one screen: it is observed, counted, let pass or not, it waits for the books,
//! is handled, and its answer is told what belongs on every answer.
//!
//! One layer, because each layer costs every request, every time it goes on.

use super::{
    gate, lifecycle, observe,
    stream::{Pace, Serving},
};
use actix_web::{
    Error, ResponseError,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    middleware::Next,
};
use std::rc::Rc;
use tracing::Instrument;

/// Around every request to the API.
pub(super) async fn api(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let observed = observe::Observed::begin(&request);
    let answering = async {
        let _serving = serving(&request);
        match gate::admit(&request) {
            Ok(()) => {
                lifecycle::wait_for_books(&request).await;
                Ok::<_, Error>(next.call(request).await?.map_into_left_body())
            }
            Err(no) => Ok(request.into_response(no.error_response()).map_into_right_body()),
        }
    };
    let mut response = answering.instrument(observed.span()).await?;
    gate::tell_standing(&mut response);
    lifecycle::close_while_draining(&mut response);
    observed.end(&mut response);
    Ok(response)
}

/// The same where nobody is known and nothing counted.
pub(super) async fn uncounted(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<EitherBody<impl MessageBody>>, Error> {
    let _serving = serving(&request);
    match gate::fits(&request) {
        Ok(()) => Ok(next.call(request).await?.map_into_left_body()),
        Err(no) => Ok(request.into_response(no.error_response()).map_into_right_body()),
    }
}

/// No time is counted on the connection while its request is worked on. One of HTTP/2 knows by itself.
fn serving(request: &ServiceRequest) -> Option<Serving> {
    request.conn_data::<Rc<Pace>>().map(Pace::serve)
}
