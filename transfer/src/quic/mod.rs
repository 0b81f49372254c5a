//! QUIC (RFC 9000) as this crate uses it: quinn, tuned for bulk data between nodes, with both ends authenticated.

mod connection;
mod endpoint;
mod link;
mod path;
mod settings;
mod socket;
pub(crate) mod streams;

pub use connection::Connection;
pub use endpoint::{BindError, ConnectError, Endpoint};
pub use link::{CertificateFault, CertificateProblem, LinkError, Whose};
pub use path::PathStats;
pub(crate) use settings::MAX_LANES;
pub use settings::Settings;
