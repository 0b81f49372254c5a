//! A lab: the client and its two nodes.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;

use crate::agent;
use crate::cgroup::{CgroupVersion, Cgroups};
use crate::cri::Container;
use crate::dirs::{self, Dirs};
use crate::error::{At, LabError, Result};
use crate::host;
use crate::image::Image;
use crate::kubernetes::{self, Cluster, Kubernetes};
use crate::machine::Machine;
use crate::network;
use crate::node::{NODES, Node, NodeName};
use crate::orphans;
use crate::root::Root;
use crate::settings::{self, LabOptions, Settings};
use crate::workload::Workload;

/// What the nodes of a lab have in common.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub dirs: Dirs,
    pub folder: PathBuf,
    pub root: Root,
    pub settings: Settings,
}

/// A lab that is up. Dropping it leaves it up; see [`LabGuard`].
#[derive(Clone, Debug)]
pub struct Lab {
    name: String,
    shared: Shared,
    client: Machine,
    nodes: [Node; 2],
}

impl Lab {
    /// Brings a lab up. What is up already stays as it is, but for its programs and its link's shape.
    pub fn up(options: &LabOptions) -> Result<Self> {
        host::require_root()?;
        options.check()?;
        let dirs = Dirs::from_env();
        let folder = dirs.lab(&options.name);
        let _lock = dirs::lock(&folder)?;
        let cgroups = Cgroups::of_host()?;
        let settings = if machine(&dirs, &options.name, CLIENT, &cgroups).is_ready()? {
            Settings::read(&folder, &options.name)?.changed(options)?
        } else {
            start_client(&dirs, options, &cgroups)?
        };
        let lab = Lab::assemble(&dirs, &options.name, cgroups, settings.clone());
        let transship = settings.programs.join("transship");
        if transship.exists() {
            agent::make_identities(&transship, &lab.identities())?;
        }
        std::thread::scope(|scope| {
            let booting = lab.nodes.each_ref().map(|node| scope.spawn(|| bring_up(node, &settings)));
            // Nodes that look for their cluster before it is there look again only seconds later.
            let cluster = lab.cluster().map(|cluster| scope.spawn(move || cluster.start_control_plane()));
            booting.into_iter().chain(cluster).try_for_each(joined)
        })?;
        if let Some(cluster) = lab.cluster() {
            std::thread::scope(|scope| {
                let joining = lab.nodes.each_ref().map(|node| scope.spawn(|| node.join_cluster()));
                joining.into_iter().try_for_each(joined)
            })?;
            cluster.await_ready()?;
        }
        // Only now: a link that could not be shaped as asked isn't what a later boot should ask for again.
        settings.write(&folder)?;
        Ok(lab)
    }

    /// A lab that is up.
    pub fn open(name: &str) -> Result<Self> {
        host::require_root()?;
        settings::check_name(name)?;
        let dirs = Dirs::from_env();
        let settings = Settings::read(&dirs.lab(name), name)?;
        let lab = Lab::assemble(&dirs, name, Cgroups::of_host()?, settings);
        if lab.client.is_running()? { Ok(lab) } else { Err(LabError::NotUp(name.to_owned())) }
    }

    /// The names of all labs that have left anything on this machine, up or not.
    pub fn names() -> Result<Vec<String>> {
        let labs = Dirs::from_env().labs();
        let entries = match fs::read_dir(&labs) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(e) => return Err(e).at("list", labs),
        };
        let mut names = vec![];
        for entry in entries {
            let entry = entry.at("list", &labs)?;
            if entry.path().is_dir() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Ends this lab and removes all it has left.
    pub fn down(self) -> Result<()> {
        Lab::take_down(&self.name)
    }

    /// Ends the lab of that name, however much or little of it there is, and removes all it has left.
    pub fn take_down(name: &str) -> Result<()> {
        host::require_root()?;
        settings::check_name(name)?;
        let dirs = Dirs::from_env();
        let _lock = dirs::lock(&dirs.lab(name))?;
        clear(&dirs, name, &Cgroups::of_host()?)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which cgroup version its nodes see.
    pub fn cgroups(&self) -> CgroupVersion {
        self.shared.settings.cgroups
    }

    /// The file system that all its machines share.
    pub fn root(&self) -> &Root {
        &self.shared.root
    }

    /// The machine that stands for the world outside: in the network of the bridge, with redis-cli, psql, iperf3.
    pub fn client(&self) -> &Machine {
        &self.client
    }

    /// A node.
    pub fn node(&self, name: NodeName) -> &Node {
        match name {
            NodeName::A => &self.nodes[0],
            NodeName::B => &self.nodes[1],
        }
    }

    /// Both nodes, `a` first.
    pub fn nodes(&self) -> &[Node; 2] {
        &self.nodes
    }

    /// The cluster of its nodes. Fails if the lab was brought up without one.
    pub fn kubernetes(&self) -> Result<Kubernetes<'_>> {
        self.cluster().ok_or_else(|| {
            LabError::Usage(format!(
                "the nodes of lab `{0}` are no cluster's; `cargo xtask lab down --name {0}`, then `… up --kubernetes`",
                self.name
            ))
        })
    }

    fn cluster(&self) -> Option<Kubernetes<'_>> {
        let program = self.shared.settings.kubernetes.as_deref()?;
        Some(Kubernetes::of(self, program))
    }

    /// Where it keeps its things on the host.
    /// Where the static programs are that its machines were given.
    pub(crate) fn programs(&self) -> &Path {
        &self.shared.settings.programs
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// The authority and the nodes' certificates, as `transship pki` makes them: `ca.crt`, `ca.key`, `a.crt`, `a.key`, …
    pub fn identities(&self) -> PathBuf {
        identities(&self.shared.folder)
    }

    /// Starts a workload on a node. Its image, if it is one of the lab's own, is on both nodes then. Fails on a cluster's
    /// nodes.
    pub fn start(&self, node: NodeName, workload: &Workload) -> Result<Container> {
        if self.cluster().is_some() {
            let why = "a kubelet ends what it doesn't know: start a Pod with `cargo xtask lab kubectl`";
            return Err(LabError::Usage(why.to_owned()));
        }
        self.node(node.peer()).image_of(workload)?;
        self.node(node).start(workload)
    }

    /// Puts an image of the user's own on both nodes: an OCI or docker archive, or a folder that holds a root file
    /// system. Returns its full name.
    pub fn import_image(&self, path: &Path, name: &str) -> Result<String> {
        let (image, _archive) = Image::of_user(path, name)?;
        for node in &self.nodes {
            node.import_image(&image)?;
        }
        Ok(image.reference)
    }

    fn assemble(dirs: &Dirs, name: &str, cgroups: Cgroups, settings: Settings) -> Self {
        let client = machine(dirs, name, CLIENT, &cgroups);
        let shared =
            Shared { dirs: dirs.clone(), folder: dirs.lab(name), root: Root::at(&settings.root), settings };
        let nodes = NODES.map(|node| {
            let machine = machine(dirs, name, node.as_str(), &cgroups);
            Node::new(node, machine, client.clone(), shared.clone())
        });
        Lab { name: name.to_owned(), shared, client, nodes }
    }
}

/// A lab that goes down when this is dropped, however the test that holds it ends.
#[derive(Debug)]
pub struct LabGuard {
    lab: Lab,
    /// Two programs that want a fresh lab of one name have it one after the other.
    _owner: File,
}

impl LabGuard {
    /// Brings up a fresh lab: one of that name that is still there goes down first. Waits while another program
    /// holds a guard of that name.
    pub fn up(options: &LabOptions) -> Result<Self> {
        options.check()?;
        orphans::adopt()?;
        let owner = dirs::lock(&Dirs::from_env().lab(&format!("{}.owner", options.name)))?;
        Lab::take_down(&options.name)?;
        match Lab::up(options) {
            Ok(lab) => Ok(LabGuard { lab, _owner: owner }),
            Err(error) => {
                // The first error is the one worth telling.
                Lab::take_down(&options.name).ok();
                Err(error)
            }
        }
    }
}

impl Deref for LabGuard {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl Drop for LabGuard {
    fn drop(&mut self) {
        if let Err(error) = Lab::take_down(&self.lab.name) {
            eprintln!("lab `{}` could not be taken down: {error}", self.lab.name);
        }
    }
}

const CLIENT: &str = "client";

pub(crate) fn identities(lab: &Path) -> PathBuf {
    lab.join("pki")
}

fn machine(dirs: &Dirs, lab: &str, name: &str, cgroups: &Cgroups) -> Machine {
    Machine::new(name, dirs.lab(lab).join(name), cgroup_of(lab).join(name), cgroups.clone())
}

/// Ends and removes whatever there is of a lab. Its lock must be held.
fn clear(dirs: &Dirs, name: &str, cgroups: &Cgroups) -> Result<()> {
    // The client last: its end waits for that of the nodes, which live in it, and what is frozen in one of them ends
    // only when the node's cgroup is removed.
    for machine_name in NODES.map(NodeName::as_str).into_iter().chain([CLIENT]) {
        machine(dirs, name, machine_name, cgroups).stop()?;
    }
    cgroups.remove(&cgroup_of(name))?;
    dirs::remove_tree(&dirs.lab(name))
}

fn cgroup_of(lab: &str) -> PathBuf {
    format!("transship-lab-{lab}").into()
}

/// Starts a fresh lab's first machine, in place of what an earlier lab of this name has left.
fn start_client(dirs: &Dirs, options: &LabOptions, cgroups: &Cgroups) -> Result<Settings> {
    clear(dirs, &options.name, cgroups)?;
    let root = Root::ensure(dirs)?;
    let version = options.cgroups.unwrap_or(cgroups.host_version());
    let kubernetes = match options.cluster {
        Cluster::None => None,
        Cluster::Kubernetes if cgroups.have_controllers(version)? => Some(kubernetes::ensure_program(dirs)?),
        Cluster::Kubernetes => {
            return Err(LabError::Machine {
                what: format!("a kubelet needs cgroup controllers, and cgroup {version} has none here"),
                mend: "leave out --cgroup",
            });
        }
    };
    let settings = Settings::new(options, root.path(), kubernetes, version);
    let folder = dirs.lab(&options.name);
    fs::create_dir_all(&folder).at("make", &folder)?;
    let client = machine(dirs, &options.name, CLIENT, cgroups);
    client.start(&settings, None)?;
    network::connect_client(&client, settings.mtu)?;
    if settings.kubernetes.is_some() {
        network::route_services(&client)?;
    }
    settings.write(&folder)?;
    client.mark_ready()?;
    Ok(settings)
}

fn bring_up(node: &Node, settings: &Settings) -> Result<()> {
    if !node.is_ready()? {
        return node.boot_alone();
    }
    network::shape(node, settings.link)?;
    node.install_programs()
}

fn joined(thread: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
