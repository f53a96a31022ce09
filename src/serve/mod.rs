//! A medium, or what a node holds, as a read-only registry: the pull half of the OCI distribution API.
//!
//! | file | what is in it |
//! |---|---|
//! | [`request`], [`name`], [`range`] | what a client asks for, as a value; pure |
//! | [`documents`], [`shelf`] | what there is, as a value: tags, referrers, why something is absent; pure |
//! | [`answer`](mod@answer) | a request held against the shelf; pure |
//! | [`proof`] | bytes that are hashed while they are sent |
//! | [`stock`] | where the bytes come from |
//! | [`server`] | connections and their limits; the only asynchronous code here |
//! | [`hosts`] | what containerd reads to pull from a mirror; pure |
//! | [`login`], [`metrics`], [`page`] | what a server has besides |

pub mod answer;
pub mod documents;
pub mod hosts;
pub mod login;
pub mod metrics;
pub mod name;
pub mod page;
pub mod proof;
pub mod range;
pub mod request;
pub mod server;
pub mod shelf;
pub mod stock;

pub use login::Logins;
pub use server::{Access, Limits, Options, Server, Told};
pub use stock::{Containerd, Media, Stock};
