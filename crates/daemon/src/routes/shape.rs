//! What answers look like to clients of different ages.

use seacow_spec::docker::image::{ImageInspect, ImageSummary};

use crate::http::version::ApiVersion;

/// The last minor version whose images had `VirtualSize`.
const LAST_VIRTUAL_SIZE: u32 = 43;
/// The last minor version that named the nameless.
const LAST_NONE: u32 = 42;
/// The last minor version whose images told of the container they were committed from.
const LAST_CONTAINER_CONFIG: u32 = 44;

/// A stream of frames, eight bytes of header each.
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Bytes as they are; also what frames were called until 1.41.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";

/// Content type of attach, exec and logs.
pub(crate) fn stream_type(version: ApiVersion, tty: bool) -> &'static str {
    if !tty && version.since(42) { MULTIPLEXED } else { RAW }
}

/// Rows of `GET /images/json`.
pub(crate) fn image_list(version: ApiVersion, images: &mut [ImageSummary]) {
    for image in images {
        image.virtual_size = (!version.since(LAST_VIRTUAL_SIZE + 1)).then_some(image.size);
        let nameless = image.repo_tags.is_empty() && image.repo_digests.is_empty();
        if nameless && !version.since(LAST_NONE + 1) {
            image.repo_tags.push("<none>:<none>".into());
            image.repo_digests.push("<none>@<none>".into());
        }
    }
}

/// `GET /images/{name}/json`.
pub(crate) fn image_inspect(version: ApiVersion, image: &mut ImageInspect) {
    image.virtual_size = (!version.since(LAST_VIRTUAL_SIZE + 1)).then_some(image.size);
    if version.since(LAST_CONTAINER_CONFIG + 1) {
        image.container = None;
        image.container_config = None;
    } else {
        image.container.get_or_insert_default();
        image.container_config.get_or_insert_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_own_type_from_1_42() {
        assert_eq!(stream_type(ApiVersion::new(1, 41), false), RAW);
        assert_eq!(stream_type(ApiVersion::new(1, 42), false), MULTIPLEXED);
        assert_eq!(stream_type(ApiVersion::new(1, 51), true), RAW);
    }

    #[test]
    fn virtual_size_until_1_43() {
        let mut images = [ImageSummary { size: 7, ..ImageSummary::default() }];
        image_list(ApiVersion::new(1, 43), &mut images);
        assert_eq!(images[0].virtual_size, Some(7));
        assert!(images[0].repo_tags.is_empty());
        image_list(ApiVersion::new(1, 44), &mut images);
        assert_eq!(images[0].virtual_size, None);
        image_list(ApiVersion::new(1, 42), &mut images);
        assert_eq!(images[0].repo_tags, ["<none>:<none>"]);
    }
}
