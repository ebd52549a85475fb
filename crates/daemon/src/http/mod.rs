//! HTTP as Docker's clients know it: everything between the socket and a resource's own verbs.
//!
//! | module | what |
//! |---|---|
//! | [`body`] | bodies of answers: nothing, one piece, or a stream |
//! | [`call`] | one request as a route sees it |
//! | [`error`] | refusals, and the one function from error class to status |
//! | [`go_json`] | JSON as Go writes it, and Go's words for JSON that it cannot read |
//! | [`query`] | query strings with Docker's booleans and Go's number errors |
//! | [`reply`] | building answers |
//! | [`request_body`] | bodies of requests, read to their end whatever happens |
//! | [`router`] | path and method to route, redirects |
//! | [`version`] | API versions and the gate |

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod error;
pub(crate) mod go_json;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request_body;
pub(crate) mod router;
pub(crate) mod version;

pub(crate) use body::Body;
pub(crate) use call::Call;
pub(crate) use error::ApiError;
pub(crate) use reply::Reply;
pub(crate) use router::Route;
