//! Leases: what keeps content alive that nothing refers to yet.

use std::collections::HashMap;

use containerd_client::services::v1 as api;
use tonic::Code;

use super::Client;
use super::client::MAX_MESSAGE;
use crate::error::Result;
use crate::image::Digest;

/// A lease of this namespace.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its id.
    pub id: String,
    /// Its labels.
    pub labels: HashMap<String, String>,
    /// When it was made, in seconds since 1970.
    pub created: i64,
}

/// Something that a lease holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// `content`, `ingests`, or `snapshots/` and the snapshotter.
    pub kind: String,
    /// A digest, the name of an ingest, or the key of a snapshot.
    pub id: String,
}

impl Resource {
    /// A blob.
    pub fn blob(digest: Digest) -> Self {
        Self { kind: "content".into(), id: digest.to_string() }
    }

    /// A snapshot.
    pub fn snapshot(snapshotter: &str, key: &str) -> Self {
        Self { kind: format!("snapshots/{snapshotter}"), id: key.to_owned() }
    }
}

impl Client {
    fn leases(&self) -> api::leases_client::LeasesClient<tonic::transport::Channel> {
        api::leases_client::LeasesClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Makes a lease. There is no way to change its labels later.
    pub fn create_lease(&self, id: &str, labels: HashMap<String, String>) -> Result<()> {
        let request = self.request(api::CreateRequest { id: id.to_owned(), labels });
        let mut leases = self.leases();
        self.call(|| format!("creating lease {id}"), leases.create(request)).map(drop)
    }

    /// Ends a lease; with `collect`, returns when the garbage collection after it is done.
    pub fn delete_lease(&self, id: &str, collect: bool) -> Result<()> {
        let request = self.request(api::DeleteRequest { id: id.to_owned(), sync: collect });
        let mut leases = self.leases();
        // A collection takes as long as there is garbage.
        match self.block_on_long(leases.delete(request)) {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::NotFound => Ok(()),
            Err(status) => Err(self.failed(format!("deleting lease {id}"), status)),
        }
    }

    /// All leases of this namespace.
    pub fn list_leases(&self) -> Result<Vec<Lease>> {
        let request = self.request(api::ListRequest { filters: Vec::new() });
        let mut leases = self.leases();
        let answer = self.call(|| "listing leases".into(), leases.list(request))?;
        let lease = |lease: api::Lease| {
            let created = lease.created_at.map_or(0, |time| time.seconds);
            Lease { id: lease.id, labels: lease.labels, created }
        };
        Ok(answer.leases.into_iter().map(lease).collect())
    }

    /// What a lease holds; nothing when it is gone.
    pub fn lease_resources(&self, id: &str) -> Result<Vec<Resource>> {
        let request = self.request(api::ListResourcesRequest { id: id.to_owned() });
        let mut leases = self.leases();
        let answer =
            self.find(|| format!("listing what lease {id} holds"), leases.list_resources(request))?;
        let resource = |r: api::Resource| Resource { kind: r.r#type, id: r.id };
        Ok(answer.map(|a| a.resources.into_iter().map(resource).collect()).unwrap_or_default())
    }

    /// Has a lease hold something; it may be held already.
    pub fn hold(&self, lease: &str, resource: &Resource) -> Result<()> {
        let Resource { kind, id } = resource.clone();
        let what = api::Resource { id, r#type: kind };
        let request = self.request(api::AddResourceRequest { id: lease.to_owned(), resource: Some(what) });
        let mut leases = self.leases();
        match self.block_on(leases.add_resource(request)) {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => Ok(()),
            Err(status) => Err(self.failed(format!("leasing {}", resource.id), status)),
        }
    }

    /// Has the lease in use hold something; without one, does nothing.
    pub fn hold_here(&self, resource: &Resource) -> Result<()> {
        match self.lease_id() {
            Some(lease) => self.hold(&lease, resource),
            None => Ok(()),
        }
    }

    /// Runs containerd's garbage collection and waits for its end.
    pub fn collect_garbage(&self) -> Result<()> {
        let id = format!("pannier-gc-{}", crate::unique::id());
        // Should this process die in between, it is gone with the next collection.
        let ends = time::OffsetDateTime::now_utc() + time::Duration::minutes(10);
        let ends = ends.format(&time::format_description::well_known::Rfc3339).unwrap_or_default();
        self.create_lease(&id, HashMap::from([(super::label::GC_EXPIRE.to_owned(), ends)]))?;
        self.delete_lease(&id, true)
    }
}
