use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const PROGRAM: &str = "/opt/cni/bin/minionet";
const UNIT: &str = "/etc/systemd/system/minionetd.service";
const LIST: &str = "/etc/cni/net.d/10.conflist";
const WANTS: &str = "/etc/systemd/system/multi-user.target.wants/minionetd.service";

fn file(path: &str, digest: &str, policy: Policy) -> Item {
    Item { path: path.into(), content: Content::File { digest: digest.into(), mode: 0o644, policy } }
}

fn items(version: &str) -> Vec<Item> {
    vec![
        file(PROGRAM, &format!("program {version}"), Policy::Replace),
        file(UNIT, &format!("unit {version}"), Policy::Respect),
        Item { path: WANTS.into(), content: Content::Link { target: UNIT.into() } },
        Item { path: "/etc/cni/net.d".into(), content: Content::Directory },
        Item { path: LIST.into(), content: Content::Later },
    ]
}

/// Does to a disk what the steps say.
fn carry_out(disk: &mut Disk, steps: &[Step], items: &[Item]) {
    let content = |path: &str| items.iter().find(|item| item.path == path).map(|item| item.content.clone());
    for step in steps {
        let path = step.path().to_owned();
        match step {
            Step::MakeDirectory(_) => drop(disk.insert(path, Found::Directory(Vec::new()))),
            Step::Link { target, .. } => drop(disk.insert(path, Found::Link { target: target.clone() })),
            Step::Write(_) | Step::Replace(_) | Step::SetMode(..) => {
                let Some(Content::File { digest, mode, .. }) = content(&path) else { panic!("{path}") };
                disk.insert(path, Found::File { digest, mode });
            }
            Step::Remove(_) | Step::RemoveDirectory(_) => drop(disk.remove(&path)),
            Step::Keep(_) => {}
        }
    }
    fill_directories(disk);
}

/// Makes the entries of directories what is in them.
fn fill_directories(disk: &mut Disk) {
    let paths: Vec<String> = disk.keys().cloned().collect();
    for (path, found) in disk.iter_mut() {
        if let Found::Directory(entries) = found {
            let inside = |p: &String| p.strip_prefix(&format!("{path}/")).map(str::to_owned);
            *entries = paths.iter().filter_map(inside).filter(|name| !name.contains('/')).collect();
        }
    }
}

fn disk(directories: &[&str], files: &[(&str, &str)]) -> Disk {
    let directories = directories.iter().map(|d| ((*d).to_owned(), Found::Directory(Vec::new())));
    let file = |digest: &str| Found::File { digest: digest.into(), mode: 0o644 };
    let files = files.iter().map(|(path, digest)| ((*path).to_owned(), file(digest)));
    let mut disk: Disk = directories.chain(files).collect();
    fill_directories(&mut disk);
    disk
}

#[test]
fn a_bare_disk_gets_everything_once_and_loses_everything_again() {
    let before = disk(&["/etc", "/opt"], &[("/etc/hostname", "mine")]);
    let mut now = before.clone();
    let first = plan(&items("1"), &now, None, "1", false).unwrap();
    let shown: Vec<String> = first.steps.iter().map(Step::to_string).collect();
    assert_eq!(
        shown[..3],
        ["make     /opt/cni/", "make     /opt/cni/bin/", "write    /opt/cni/bin/minionet"]
    );
    carry_out(&mut now, &first.steps, &items("1"));
    let second = plan(&items("1"), &now, Some(&first.manifest), "1", false).unwrap();
    assert_eq!((second.steps.as_slice(), second.unchanged), ([].as_slice(), 3));
    assert_eq!(second.manifest, first.manifest);
    // What the daemon writes stays when it is installed again, and goes with it.
    now.insert(LIST.into(), Found::File { digest: "written by the daemon".into(), mode: 0o644 });
    fill_directories(&mut now);
    assert!(plan(&items("1"), &now, Some(&first.manifest), "1", false).unwrap().steps.is_empty());
    let removal = remove(&second.manifest, &now, &[], false);
    assert!(removal.complete);
    carry_out(&mut now, &removal.steps, &[]);
    assert_eq!(now, before);
}

#[test]
fn an_upgrade_replaces_what_nobody_changed() {
    let mut now = disk(&["/etc", "/opt"], &[]);
    let first = plan(&items("1"), &now, None, "1", false).unwrap();
    carry_out(&mut now, &first.steps, &items("1"));
    now.insert(UNIT.into(), Found::File { digest: "edited".into(), mode: 0o644 });
    let upgrade = plan(&items("2"), &now, Some(&first.manifest), "2", false).unwrap();
    assert_eq!(upgrade.steps, [Step::Replace(PROGRAM.into()), Step::Keep(UNIT.into())]);
    // What was kept is still known as changed afterwards.
    let removal = remove(&upgrade.manifest, &now, &[], false);
    assert!(!removal.complete && removal.steps.contains(&Step::Keep(UNIT.into())));
    let forced = plan(&items("2"), &now, Some(&first.manifest), "2", true).unwrap();
    assert_eq!(forced.steps, [Step::Replace(PROGRAM.into()), Step::Replace(UNIT.into())]);
    assert!(remove(&upgrade.manifest, &now, &[], true).complete);
}

#[test]
fn what_a_new_version_does_not_have_any_more_goes() {
    let mut now = disk(&["/etc", "/opt"], &[]);
    let first = plan(&items("1"), &now, None, "1", false).unwrap();
    carry_out(&mut now, &first.steps, &items("1"));
    let fewer = &items("2")[..1];
    let upgrade = plan(fewer, &now, Some(&first.manifest), "2", false).unwrap();
    let expected = [Step::Replace(PROGRAM.into()), Step::Remove(UNIT.into()), Step::Remove(WANTS.into())];
    assert_eq!(upgrade.steps, expected);
}

#[test]
fn a_strangers_file_is_kept_and_a_directory_in_the_way_stops_everything() {
    let now = disk(&["/etc", "/etc/systemd", "/etc/systemd/system"], &[(UNIT, "somebody's")]);
    let first = plan(&items("1"), &now, None, "1", false).unwrap();
    assert!(first.steps.contains(&Step::Keep(UNIT.into())));
    assert!(!first.manifest.files.contains_key(UNIT), "it is not ours to remove");
    let now = disk(&["/opt", "/opt/cni", "/opt/cni/bin", PROGRAM], &[("/etc", "a file")]);
    let conflicts = plan(&items("1"), &now, None, "1", true).unwrap_err();
    let texts: Vec<String> = conflicts.iter().map(Conflict::to_string).collect();
    let program = format!("{PROGRAM} is a directory where a file has to be: move it away");
    assert_eq!(texts, [&program, "/etc is a file where a directory has to be: move it away"]);
}

#[test]
fn permissions_are_put_right() {
    let mut now = disk(&["/opt", "/opt/cni", "/opt/cni/bin"], &[]);
    now.insert(PROGRAM.into(), Found::File { digest: "program 1".into(), mode: 0o600 });
    let first = plan(&items("1")[..1], &now, None, "1", false).unwrap();
    assert_eq!(first.steps, [Step::SetMode(PROGRAM.into(), 0o644)]);
}

#[test]
fn the_manifest_survives_the_round_trip_and_refuses_what_it_does_not_know() {
    let manifest = plan(&items("1"), &Disk::new(), None, "1", false).unwrap().manifest;
    assert_eq!(Manifest::parse(&manifest.to_text()), Ok(manifest));
    assert_eq!(Manifest::parse("{\"schema\": 9}"), Err(ManifestError::Unknown(9)));
    assert!(matches!(Manifest::parse("{}"), Err(ManifestError::Malformed(_))));
    assert!(matches!(Manifest::parse("half of"), Err(ManifestError::Malformed(_))));
}

#[test]
fn the_manifest_goes_when_nothing_else_is_left_to_go() {
    let own = "/var/lib/minionet/installed.json";
    let mut now = disk(&["/etc", "/opt", "/var", "/var/lib", "/var/lib/minionet"], &[(own, "manifest")]);
    let mut first = plan(&items("1"), &now, None, "1", false).unwrap();
    carry_out(&mut now, &first.steps, &items("1"));
    first.manifest.directories.insert("/var/lib/minionet".to_owned());
    let removal = remove(&first.manifest, &now, &[own], false);
    let (end, before) = removal.steps.split_last_chunk::<2>().map(|(before, end)| (end, before)).unwrap();
    assert_eq!(end[0], Step::Remove(own.into()));
    assert_eq!(end[1], Step::RemoveDirectory("/var/lib/minionet".into()));
    // Killed before that, it is taken up again.
    for killed in 0..=before.len() {
        let mut now = now.clone();
        carry_out(&mut now, &before[..killed], &[]);
        let rest = remove(&first.manifest, &now, &[own], false);
        carry_out(&mut now, &rest.steps, &[]);
        assert_eq!(now, disk(&["/etc", "/opt", "/var", "/var/lib"], &[]), "killed after {killed} steps");
    }
}

proptest! {
    /// Whatever of the directories and files was there before, and whatever was left of an earlier
    /// attempt: installing ends after one run, and removing gives back what was there.
    #[test]
    fn a_crash_at_any_step_leaves_nothing_that_is_not_removed(
        present in prop::sample::subsequence(vec!["/etc", "/etc/cni", "/etc/cni/net.d", "/etc/systemd",
            "/etc/systemd/system", "/opt", "/opt/cni", "/opt/cni/bin"], 0..8),
        crash in 0_usize..20,
    ) {
        let complete: BTreeSet<String> =
            present.iter().flat_map(|p| parents(p).into_iter().chain([(*p).to_owned()])).collect();
        let complete: Vec<&str> = complete.iter().map(String::as_str).collect();
        let before = disk(&complete, &[]);
        let mut now = before.clone();
        let first = plan(&items("1"), &now, None, "1", false).unwrap();
        let done = crash.min(first.steps.len());
        carry_out(&mut now, &first.steps[..done], &items("1"));
        let again = plan(&items("1"), &now, Some(&first.manifest), "1", false).unwrap();
        prop_assert_eq!(&again.manifest, &first.manifest);
        let mut finished = now.clone();
        carry_out(&mut finished, &again.steps, &items("1"));
        for mut disk in [now, finished] {
            let removal = remove(&first.manifest, &disk, &[], false);
            prop_assert!(removal.complete);
            carry_out(&mut disk, &removal.steps, &[]);
            prop_assert_eq!(&disk, &before);
        }
    }
}
