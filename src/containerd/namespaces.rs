//! Namespaces: the same files under several databases.

use containerd_client::services::v1 as api;

use super::Client;
use crate::error::Result;

impl Client {
    /// The names of all namespaces.
    pub fn list_namespaces(&self) -> Result<Vec<String>> {
        let mut namespaces = api::namespaces_client::NamespacesClient::new(self.channel());
        let request = self.request(api::ListNamespacesRequest { filter: String::new() });
        let answer = self.call(|| "listing namespaces".into(), namespaces.list(request))?;
        Ok(answer.namespaces.into_iter().map(|namespace| namespace.name).collect())
    }
}
