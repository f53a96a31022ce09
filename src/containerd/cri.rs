//! The CRI plugin: the same images as kubelet sees them, on the same socket.

use std::time::{Duration, Instant};

use tonic::Code;

use super::Client;
use super::client::{CRI_STARTING, MAX_MESSAGE};
use crate::error::{Error, Result};
use crate::image::Digest;

/// The messages and clients of the Container Runtime Interface, generated from `proto/cri.proto`.
#[allow(missing_docs, missing_debug_implementations, unreachable_pub, clippy::all)]
pub mod api {
    tonic::include_proto!("runtime.v1");
}

/// The pause between two questions whether CRI has started.
const PAUSE: Duration = Duration::from_millis(100);

/// An image as kubelet sees it.
#[derive(Clone, Debug)]
pub struct CriImage {
    /// The digest of its config.
    pub id: Digest,
    /// Names with a tag.
    pub tags: Vec<String>,
    /// Names with a digest.
    pub digests: Vec<String>,
    /// Bytes of its blobs.
    pub size: u64,
    /// Whether kubelet leaves it alone when it collects images.
    pub pinned: bool,
}

/// A container as kubelet sees it.
#[derive(Clone, Debug)]
pub struct CriContainer {
    /// Its id.
    pub id: String,
    /// What it runs: an image id, or a name.
    pub image: String,
}

fn image(image: api::Image) -> Option<CriImage> {
    Some(CriImage {
        id: image.id.parse().ok()?,
        tags: image.repo_tags,
        digests: image.repo_digests,
        size: image.size,
        pinned: image.pinned,
    })
}

impl Client {
    fn cri_images(&self) -> api::image_service_client::ImageServiceClient<tonic::transport::Channel> {
        api::image_service_client::ImageServiceClient::new(self.channel())
            .max_decoding_message_size(MAX_MESSAGE)
    }

    /// The runtime's name when this containerd serves CRI, so can be kubelet's; `None` when not.
    pub fn cri_runtime(&self) -> Result<Option<String>> {
        let mut runtime = api::runtime_service_client::RuntimeServiceClient::new(self.channel());
        match self.block_on(runtime.version(self.request(api::VersionRequest::default()))) {
            Ok(answer) => Ok(Some(answer.into_inner().runtime_name)),
            Err(status) if matches!(status.code(), Code::Unimplemented | Code::Unavailable) => {
                match self.failed("asking for CRI".into(), status) {
                    gone @ Error::Unreachable { .. } => Err(gone),
                    _ => Ok(None),
                }
            }
            Err(status) => Err(self.failed("asking for CRI".into(), status)),
        }
    }

    /// Whether this containerd serves CRI, also where that is still starting.
    pub fn serves_cri(&self) -> Result<bool> {
        match self.cri_runtime() {
            Err(Error::Unreachable { source, .. }) if source.to_string().contains(CRI_STARTING) => Ok(true),
            other => Ok(other?.is_some()),
        }
    }

    /// Waits until CRI has started, for as long as containerd gives signs of life and `patience` lasts; `None`
    /// where it does not serve CRI.
    pub fn await_cri(&self, patience: Duration) -> Result<Option<String>> {
        let begun = Instant::now();
        loop {
            match self.cri_runtime() {
                Err(Error::Unreachable { source, .. })
                    if source.to_string().contains(CRI_STARTING) && begun.elapsed() < patience =>
                {
                    self.stop().check()?;
                    std::thread::sleep(PAUSE);
                }
                other => return other,
            }
        }
    }

    /// The runtime's configuration, as JSON; what is in it depends on containerd's version.
    pub fn cri_config(&self) -> Result<Option<String>> {
        let mut runtime = api::runtime_service_client::RuntimeServiceClient::new(self.channel());
        let request = self.request(api::StatusRequest { verbose: true });
        let mut answer = self.call(|| "asking CRI for its status".into(), runtime.status(request))?;
        Ok(answer.info.remove("config"))
    }

    /// What CRI says of itself: conditions such as `RuntimeReady`, whether they hold, and why not.
    pub fn cri_conditions(&self) -> Result<Vec<(String, bool, String)>> {
        let mut runtime = api::runtime_service_client::RuntimeServiceClient::new(self.channel());
        let request = self.request(api::StatusRequest { verbose: false });
        let answer = self.call(|| "asking CRI for its status".into(), runtime.status(request))?;
        let conditions = answer.status.unwrap_or_default().conditions.into_iter();
        Ok(conditions.map(|condition| (condition.r#type, condition.status, condition.message)).collect())
    }

    /// Root directories of the snapshotters that CRI unpacks to, the default one first.
    pub fn cri_image_roots(&self) -> Result<Vec<String>> {
        let mut images = self.cri_images();
        let request = self.request(api::ImageFsInfoRequest {});
        let answer =
            self.call(|| "asking CRI for its image filesystem".into(), images.image_fs_info(request))?;
        let root = |usage: api::FilesystemUsage| usage.fs_id.map(|id| id.mountpoint);
        Ok(answer.image_filesystems.into_iter().filter_map(root).collect())
    }

    /// The image that a pod would get under `name`; a digest or an image id will do as well.
    pub fn cri_image(&self, name: &str) -> Result<Option<CriImage>> {
        let mut images = self.cri_images();
        let spec = api::ImageSpec { image: name.to_owned() };
        let request = self.request(api::ImageStatusRequest { image: Some(spec), verbose: false });
        let answer = self.call(|| format!("asking CRI for {name}"), images.image_status(request))?;
        Ok(answer.image.and_then(image))
    }

    /// Has the node pull an image from its registry or a mirror of it, as kubelet does.
    pub fn cri_pull(&self, name: &str) -> Result<()> {
        let image = Some(api::ImageSpec { image: name.to_owned() });
        let request = self.request(api::PullImageRequest { image });
        let mut images = self.cri_images();
        self.call(|| format!("pulling {name}"), images.pull_image(request)).map(drop)
    }

    /// All images that kubelet sees.
    pub fn cri_list_images(&self) -> Result<Vec<CriImage>> {
        let mut images = self.cri_images();
        let request = self.request(api::ListImagesRequest { filter: None });
        let answer = self.call(|| "asking CRI for its images".into(), images.list_images(request))?;
        Ok(answer.images.into_iter().filter_map(image).collect())
    }

    /// All containers that kubelet sees, whatever state they are in.
    pub fn cri_list_containers(&self) -> Result<Vec<CriContainer>> {
        let mut runtime = api::runtime_service_client::RuntimeServiceClient::new(self.channel())
            .max_decoding_message_size(MAX_MESSAGE);
        let request = self.request(api::ListContainersRequest {});
        let answer =
            self.call(|| "asking CRI for its containers".into(), runtime.list_containers(request))?;
        let container = |c: api::Container| CriContainer { id: c.id, image: c.image_ref };
        Ok(answer.containers.into_iter().map(container).collect())
    }
}
