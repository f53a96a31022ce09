//! Where Kubernetes distributions have containerd's files, below the root of a system.

use std::path::Path;

/// A distribution of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Canonical Kubernetes, classic confinement.
    K8s,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
    /// MicroK8s.
    Microk8s,
    /// k0s.
    K0s,
    /// kubeadm, and whatever uses containerd's own places.
    Kubeadm,
}

/// The folder from which a distribution imports archives of images when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Images {
    /// The folder.
    pub folder: &'static Path,
    /// Whether archives may be compressed as a whole with zstd.
    pub zstd: bool,
}

impl Distribution {
    /// containerd's root directory.
    pub fn root(self) -> &'static Path {
        Path::new(match self {
            Self::K8s | Self::Kubeadm => "/var/lib/containerd",
            Self::K3s => "/var/lib/rancher/k3s/agent/containerd",
            Self::Rke2 => "/var/lib/rancher/rke2/agent/containerd",
            Self::Microk8s => "/var/snap/microk8s/common/var/lib/containerd",
            Self::K0s => "/var/lib/k0s/containerd",
        })
    }

    /// containerd's configuration, where it is there before the first boot.
    pub fn configuration(self) -> &'static Path {
        Path::new(match self {
            Self::K8s | Self::Kubeadm => "/etc/containerd/config.toml",
            Self::K3s => "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
            Self::Rke2 => "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
            Self::Microk8s => "/var/snap/microk8s/current/args/containerd.toml",
            Self::K0s => "/etc/k0s/containerd.toml",
        })
    }

    /// The folder of archives; kubeadm has none.
    pub fn images(self) -> Option<Images> {
        let (folder, zstd) = match self {
            Self::K8s => ("/var/snap/k8s/common/images", false),
            Self::K3s => ("/var/lib/rancher/k3s/agent/images", true),
            Self::Rke2 => ("/var/lib/rancher/rke2/agent/images", true),
            Self::Microk8s => ("/var/snap/microk8s/common/etc/sideload", false),
            Self::K0s => ("/var/lib/k0s/images", false),
            Self::Kubeadm => return None,
        };
        Some(Images { folder: Path::new(folder), zstd })
    }
}
