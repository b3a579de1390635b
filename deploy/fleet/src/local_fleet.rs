//! The fleet itself: a folder, and the nodes in it.

use crate::binary::find_or_build;
use crate::{FleetError, GatewayNode, GatewayOptions};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// How long a node may take from its start to its readiness.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Nodes that belong together. Dropping it ends them and removes the folder.
#[derive(Debug)]
pub struct Fleet {
    // Declared before the folder: a field is dropped before the ones below it.
    gateways: Vec<GatewayNode>,
    folder: TempDir,
}

impl Fleet {
    /// One gateway that is its own database, in a temporary folder, ready.
    pub async fn embedded(options: GatewayOptions) -> Result<Fleet, FleetError> {
        let program = find_or_build("gateway").await?;
        let folder = tempfile::Builder::new()
            .prefix("roomcast-fleet-")
            .tempdir()
            .map_err(|source| FleetError::Folder { path: std::env::temp_dir(), source })?;
        let mut gateway = GatewayNode::new("gateway-1", program, folder.path(), options)?;
        gateway.start_anywhere(READY_WITHIN).await?;
        Ok(Fleet { gateways: vec![gateway], folder })
    }

    /// The first gateway, which every fleet has.
    pub fn gateway(&self) -> &GatewayNode {
        &self.gateways[0]
    }

    /// The first gateway, to be killed or restarted.
    pub fn gateway_mut(&mut self) -> &mut GatewayNode {
        &mut self.gateways[0]
    }

    /// All gateways, in the order of their names.
    pub fn gateways(&self) -> &[GatewayNode] {
        &self.gateways
    }

    /// All gateways, to be killed or restarted.
    pub fn gateways_mut(&mut self) -> &mut [GatewayNode] {
        &mut self.gateways
    }

    /// The folder with logs and data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
