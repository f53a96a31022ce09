//! Image records: names, and what they point at.

use std::collections::HashMap;

use containerd_client::services::v1 as api;
use containerd_client::types;
use prost_types::FieldMask;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::Client;
use super::client::MAX_MESSAGE;
use crate::error::Result;
use crate::image::Descriptor;

/// How names end, as regular expressions of which each name matches one: most end in a digest.
const ENDINGS: [&str; 5] = ["[0-3]$", "[4-7]$", "[89ab]$", "[c-f]$", "[^0-9a-f]$"];

/// A name in containerd. It may point at content that is not there.
#[derive(Clone, Debug)]
pub struct ImageRecord {
    /// The name; CRI finds an image by this exact text.
    pub name: String,
    /// The index or manifest.
    pub target: Descriptor,
    /// All labels.
    pub labels: HashMap<String, String>,
}

fn record(image: api::Image) -> Option<ImageRecord> {
    let target = image.target?;
    let size = u64::try_from(target.size).ok()?;
    let target =
        Descriptor { media_type: target.media_type.into(), digest: target.digest.parse().ok()?, size };
    Some(ImageRecord { name: image.name, target, labels: image.labels })
}

fn message(name: &str, target: Option<&Descriptor>, labels: HashMap<String, String>) -> api::Image {
    let target = target.map(|target| types::Descriptor {
        media_type: target.media_type.to_string(),
        digest: target.digest.to_string(),
        size: target.size as i64,
        annotations: HashMap::new(),
    });
    api::Image { name: name.to_owned(), labels, target, ..Default::default() }
}

impl Client {
    fn images(&self) -> api::images_client::ImagesClient<tonic::transport::Channel> {
        api::images_client::ImagesClient::new(self.channel()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// Every record of this namespace. Records whose target is not named by sha256 are left out.
    pub fn list_images(&self) -> Result<Vec<ImageRecord>> {
        match self.images_like(Vec::new()) {
            // containerd answers with all in one message, for which about 30 000 are too many.
            Err(status) if [Code::OutOfRange, Code::ResourceExhausted].contains(&status.code()) => {
                self.list_images_in_parts()
            }
            answer => answer.map_err(|status| self.failed("listing images".into(), status)),
        }
    }

    /// The same with several requests. What is named or renamed meanwhile may be left out.
    pub fn list_images_in_parts(&self) -> Result<Vec<ImageRecord>> {
        let mut records = Vec::new();
        for ending in ENDINGS {
            let part = self.images_like(vec![format!("name~=\"{ending}\"")]);
            records.extend(part.map_err(|status| self.failed("listing images".into(), status))?);
        }
        Ok(records)
    }

    fn images_like(&self, filters: Vec<String>) -> Result<Vec<ImageRecord>, Status> {
        let request = self.request(api::ListImagesRequest { filters });
        let mut images = self.images();
        let answer = self.block_on(images.list(request))?;
        Ok(answer.into_inner().images.into_iter().filter_map(record).collect())
    }

    /// The record of a name.
    pub fn image(&self, name: &str) -> Result<Option<ImageRecord>> {
        let request = self.request(api::GetImageRequest { name: name.to_owned() });
        let mut images = self.images();
        let answer = self.find(|| format!("asking for image {name}"), images.get(request))?;
        Ok(answer.and_then(|answer| answer.image).and_then(record))
    }

    /// The records of those of `names` that there are, asked for all at the same time: a few, not thousands.
    pub fn images_named(&self, names: impl IntoIterator<Item = String>) -> Result<Vec<ImageRecord>> {
        let asked = names.into_iter().map(|name| {
            let request = self.request(api::GetImageRequest { name });
            let mut images = self.images();
            async move { images.get(request).await }
        });
        let mut answers: JoinSet<_> = JoinSet::new();
        let answers = self.block_on(async {
            asked.for_each(|call| drop(answers.spawn(call)));
            Ok(answers.join_all().await)
        });
        let mut records = Vec::new();
        for answer in answers.map_err(|status| self.failed("asking for images".into(), status))? {
            let answer = self.find(|| "asking for images".into(), std::future::ready(answer))?;
            records.extend(answer.and_then(|answer| answer.image).and_then(record));
        }
        Ok(records)
    }

    /// Points a name at `target`, making it if need be, and sets these labels of it.
    ///
    /// Other labels stay, such as those of the CRI plugin.
    pub fn set_image(&self, name: &str, target: &Descriptor, labels: &HashMap<String, String>) -> Result<()> {
        let action = || format!("naming {name}");
        let mut images = self.images();
        // The record can come and go between the two calls: CRI and kubelet work on it as well.
        for _ in 0..3 {
            let mut paths = vec!["target".to_owned()];
            paths.extend(labels.keys().map(|key| format!("labels.{key}")));
            let update = api::UpdateImageRequest {
                image: Some(message(name, Some(target), labels.clone())),
                update_mask: Some(FieldMask { paths }),
                ..Default::default()
            };
            if self.find(action, images.update(self.request(update)))?.is_some() {
                return Ok(());
            }
            if self.create_image(name, target, labels)? {
                return Ok(());
            }
        }
        Err(crate::error::Error::Refused {
            side: self.side(),
            action: action(),
            reason: "the record is made and removed by someone else at the same time".into(),
        })
    }

    /// Makes a name with these labels. False when there is one already, which stays as it is.
    pub fn create_image(
        &self,
        name: &str,
        target: &Descriptor,
        labels: &HashMap<String, String>,
    ) -> Result<bool> {
        let image = Some(message(name, Some(target), labels.clone()));
        let create = api::CreateImageRequest { image, ..Default::default() };
        let mut images = self.images();
        match self.block_on(images.create(self.request(create))) {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::AlreadyExists => Ok(false),
            Err(status) => Err(self.failed(format!("naming {name}"), status)),
        }
    }

    /// Sets labels of a record, each by itself; an empty value removes one. False when it is gone.
    pub fn label_image<'a>(
        &self,
        name: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<bool> {
        let labels: HashMap<String, String> =
            labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        // containerd refuses an update whose record has no target, though the mask leaves it out.
        let Some(current) = self.image(name)? else { return Ok(false) };
        let is_set =
            |(key, value): (&String, &String)| current.labels.get(key).map_or("", String::as_str) == value;
        if labels.iter().all(is_set) {
            return Ok(true);
        }
        let update = api::UpdateImageRequest {
            image: Some(message(name, Some(&current.target), labels)),
            update_mask: Some(FieldMask { paths }),
            ..Default::default()
        };
        let mut images = self.images();
        Ok(self.find(|| format!("labelling {name}"), images.update(self.request(update)))?.is_some())
    }

    /// Removes a name if it points at `target`; what only it referred to goes with the next garbage
    /// collection. False when it is gone, or points elsewhere by now.
    pub fn delete_image(&self, name: &str, target: &Descriptor) -> Result<bool> {
        if self.image(name)?.is_none_or(|record| record.target.digest != target.digest) {
            return Ok(false);
        }
        // containerd 2 compares once more; older ones do not know the field.
        let target = message(name, Some(target), HashMap::new()).target;
        let message = api::DeleteImageRequest { name: name.to_owned(), sync: false, target };
        let mut images = self.images();
        let action = || format!("removing image {name}");
        Ok(self.find(action, images.delete(self.request(message)))?.is_some())
    }
}
