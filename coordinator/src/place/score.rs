//! Which of the nodes that can take a Pod is the best.

use k8s_openapi::api::core::v1::Pod;

use super::Site;
use super::filter::{allocatable, requests, used};

/// Compared field by field: the first that differs decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// How many of the Pod's images the node holds already: a pull takes longer than anything else.
    images: usize,
    /// How much of its memory is left free with the Pod on it, in percent.
    free: i128,
}

pub fn score(pod: &Pod, site: &Site) -> Score {
    let wanted = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let held: Vec<&String> = site
        .node
        .status
        .iter()
        .flat_map(|status| status.images.iter().flatten())
        .flat_map(|image| image.names.iter().flatten())
        .collect();
    let images =
        wanted.filter(|status| held.iter().any(|name| **name == status.image || **name == status.image_id));
    let memory = |amounts: &super::quantity::Amounts| amounts.get("memory").copied().unwrap_or(0);
    let all = memory(&allocatable(&site.node)).max(1);
    let taken = memory(&used(&site.pods)) + memory(&requests(pod));
    Score { images: images.count(), free: (all - taken) * 100 / all }
}
