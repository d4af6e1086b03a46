//! Who is at the other end of the admin socket, and which roles they have: the kernel's word for user and groups
//! (SO_PEERCRED, SO_PEERGROUPS), and what `[roles]` makes of it.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use crate::config::RoleGroups;
use crate::ledger::Person;
use crate::names::{Role, escaped};
use crate::sys::process;

/// Which group has which role, by its number.
pub struct Holders {
    groups: Vec<(u32, Role)>,
    /// The roles of root, and of the account that the daemon runs as.
    root: Vec<Role>,
}

impl Holders {
    /// The error is a sentence for the operator.
    pub fn of(settings: &RoleGroups) -> Result<Self, String> {
        let mut groups = Vec::new();
        for (role, name) in settings.groups.iter() {
            match process::group_id(name) {
                Ok(Some(gid)) => groups.push((gid, *role)),
                Ok(None) => return Err(format!("there is no group `{name}`, which [roles] names for {role}")),
                Err(e) => return Err(format!("the group `{name}` cannot be looked up: {e}")),
            }
        }
        Ok(Self { groups, root: settings.root.clone() })
    }

    /// Every group that has a role, once.
    pub fn gids(&self) -> Vec<u32> {
        let mut gids: Vec<u32> = self.groups.iter().map(|(gid, _)| *gid).collect();
        gids.sort_unstable();
        gids.dedup();
        gids
    }

    fn roles(&self, uid: u32, groups: &[u32]) -> Vec<Role> {
        let root = uid == 0 || uid == process::uid();
        let has = |role: Role| {
            (root && self.root.contains(&role))
                || self.groups.iter().any(|(gid, of)| *of == role && groups.contains(gid))
        };
        Role::ALL.into_iter().filter(|role| has(*role)).collect()
    }
}

/// Somebody who gives commands. Shown, it is what stands in the audit log.
pub struct Who {
    pub uid: u32,
    pub roles: Vec<Role>,
    name: Option<String>,
    /// The account somebody logged in with before they became this one, if the kernel keeps it.
    login: Option<(u32, Option<String>)>,
    /// The same number, also where it is the uid's, for what depends on it (`process::peer_login`).
    certain: Option<u32>,
}

impl Who {
    #[cfg(test)]
    pub fn root() -> Self {
        Self { uid: 0, roles: Role::ALL.to_vec(), name: Some("root".to_owned()), login: None, certain: None }
    }

    /// Whoever connected. Looks names up, which may take a directory's time.
    pub fn at(fd: BorrowedFd<'_>, holders: &Holders) -> io::Result<Self> {
        let peer = process::peer(fd)?;
        let mut groups = process::peer_groups(fd)?;
        groups.push(peer.gid);
        let login = process::login_uid(peer.pid).filter(|login| *login != peer.uid);
        Ok(Self {
            uid: peer.uid,
            roles: holders.roles(peer.uid, &groups),
            name: process::user_name(peer.uid),
            login: login.map(|login| (login, process::user_name(login))),
            certain: process::peer_login(fd)?,
        })
    }

    /// Who runs this program, for a command that does without the daemon.
    pub fn own() -> Self {
        let uid = process::uid();
        let login = i32::try_from(std::process::id()).ok().and_then(process::login_uid).filter(|login| *login != uid);
        Self {
            uid,
            roles: Vec::new(),
            name: process::user_name(uid),
            login: login.map(|login| (login, process::user_name(login))),
            certain: None,
        }
    }

    /// Whom it can be held against that they asked, or approved; `None` where nobody knows who logged in.
    pub fn person(&self) -> Option<Person> {
        Some(Person { uid: self.uid, login: self.certain?, told: self.to_string() })
    }

    /// For what partners read too, such as a certificate: nobody's name.
    pub fn number(&self) -> String {
        format!("uid {}", self.uid)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |f: &mut fmt::Formatter<'_>, uid: u32, name: &Option<String>| {
            write!(f, "uid {uid}")?;
            name.as_ref().map_or(Ok(()), |name| write!(f, " ({})", escaped(name.as_bytes())))
        };
        one(f, self.uid, &self.name)?;
        if let Some((login, name)) = &self.login {
            f.write_str(", logged in as ")?;
            one(f, *login, name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_comes_of_a_group_and_root_has_those_the_settings_say() {
        let holders = Holders { groups: vec![(10, Role::Admin), (11, Role::Auditor)], root: vec![Role::Admin] };
        let own = process::uid();
        assert_eq!(holders.roles(own + 1, &[10]), [Role::Admin]);
        assert_eq!(holders.roles(own + 1, &[9, 11, 10]), [Role::Admin, Role::Auditor]);
        assert_eq!(holders.roles(own + 1, &[9]), []);
        assert_eq!(holders.roles(own, &[11]), [Role::Admin, Role::Auditor]);
        assert_eq!(holders.gids(), [10, 11]);
    }

    #[test]
    fn who_became_root_is_told_with_the_account_they_logged_in_with() {
        let mut who = Who { uid: 0, roles: Vec::new(), name: Some("root".to_owned()), login: None, certain: None };
        assert_eq!(who.to_string(), "uid 0 (root)");
        who.login = Some((1001, Some("anna".to_owned())));
        assert_eq!(who.to_string(), "uid 0 (root), logged in as uid 1001 (anna)");
        assert_eq!(who.number(), "uid 0");
    }

    #[test]
    fn a_group_that_does_not_exist_is_told() {
        let settings = RoleGroups { groups: vec![(Role::Auditor, "no-such-group".to_owned())], root: Vec::new() };
        assert!(Holders::of(&settings).is_err_and(|why| why.contains("`no-such-group`") && why.contains("auditor")));
    }
}
