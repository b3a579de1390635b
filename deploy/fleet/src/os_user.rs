//! Whom servers run as that refuse to run as root.

use crate::FleetError;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use tokio::process::Command;

/// Who owns the files and processes of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OsUser {
    name: String,
    uid: u32,
    gid: u32,
}

impl OsUser {
    /// Nobody else where we are not root ourselves.
    pub(crate) fn find() -> Result<Option<OsUser>, FleetError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let path = Path::new("/etc/passwd");
        let users = std::fs::read_to_string(path)
            .map_err(|source| FleetError::Folder { path: path.to_owned(), source })?;
        let found = ["postgres", "nobody"].iter().find_map(|name| Self::parse(&users, name));
        found.map(Some).ok_or(FleetError::NoUser)
    }

    fn parse(users: &str, wanted: &str) -> Option<OsUser> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| *name == wanted)?;
            let uid = fields.nth(1)?.parse().ok()?;
            Some(OsUser { name: name.to_owned(), uid, gid: fields.next()?.parse().ok()? })
        })
    }

    /// Makes the program run as this user, and with none of our groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Gives a file or folder to this user, who has to be able to reach it.
    pub(crate) fn give(&self, path: &Path) -> Result<(), FleetError> {
        for folder in path.ancestors().skip(1) {
            let unusable = |source| FleetError::Folder { path: folder.to_owned(), source };
            let data = folder.metadata().map_err(unusable)?;
            let bit = match (data.uid() == self.uid, data.gid() == self.gid) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if data.mode() & bit == 0 {
                let (path, user) = (folder.to_owned(), self.name.clone());
                return Err(FleetError::Shut { path, user });
            }
        }
        chown(path, Some(self.uid), Some(self.gid))
            .map_err(|source| FleetError::Folder { path: path.to_owned(), source })
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let users = "postgresql:x:1:2::/:/bin/sh\npostgres:x:101:104:admin:/var:/bin/sh\n";
        let user = OsUser { name: "postgres".to_owned(), uid: 101, gid: 104 };
        assert_eq!(OsUser::parse(users, "postgres"), Some(user));
        assert_eq!(OsUser::parse(users, "nobody"), None);
    }

    #[test]
    fn a_folder_that_is_shut_for_the_user_is_named() {
        let user = OsUser { name: "nobody".to_owned(), uid: 65_534, gid: 65_534 };
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let below = folder.path().join("data");
        std::fs::create_dir(&below).unwrap();
        let error = user.give(&below).unwrap_err();
        assert!(matches!(error, FleetError::Shut { path, .. } if path == folder.path()));
    }
}
