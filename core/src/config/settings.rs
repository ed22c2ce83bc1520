//! The table of all settings.

/// What a setting's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    One,
    /// A list: an array in the file, separated by commas in flags and variables.
    Many,
    /// Yes or no.
    Switch,
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Key in the file; the flag is the same with dashes.
    pub key: &'static str,
    /// Variable in the environment.
    pub env: &'static str,
    /// One or many.
    pub shape: Shape,
    /// Placeholder of the value in help texts.
    pub value: &'static str,
    /// The default, as it would be written.
    pub default: &'static str,
    /// What it does, with units.
    pub help: &'static str,
}

const fn one(
    key: &'static str,
    env: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, env, shape: Shape::One, value, default, help }
}

const fn many(
    key: &'static str,
    env: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting { key, env, shape: Shape::Many, value, default, help }
}

const fn switch(key: &'static str, env: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { key, env, shape: Shape::Switch, value: "BOOL", default, help }
}

/// Every setting, in the order of the documentation.
pub const SETTINGS: &[Setting] = &[
    one(
        "cluster_name",
        "CLUSTER_NAME",
        "NAME",
        "",
        "Name of the cluster; the only setting that must be given",
    ),
    one("domain", "MINIONET_DOMAIN", "DOMAIN", "k8s", "Domain below which the names of clusters live"),
    many(
        "roles",
        "MINIONET_ROLES",
        "ROLE",
        "minions",
        "Roles whose nodes are peers; each is a name {role}.{cluster}.{domain}",
    ),
    many(
        "node_networks",
        "MINIONET_NODE_NETWORKS",
        "CIDR",
        "",
        "Networks in which nodes live, in an order that only ever grows at its end [default: the subnet of the node's own address]",
    ),
    many(
        "pod_network",
        "MINIONET_POD_NETWORK",
        "CIDR",
        "10.32.0.0/12",
        "Networks in which pods live, at most one per address family",
    ),
    one("node_prefix", "MINIONET_NODE_PREFIX", "LENGTH", "24", "Prefix length of one node's IPv4 pod CIDR"),
    one("node_prefix6", "MINIONET_NODE_PREFIX6", "LENGTH", "64", "Prefix length of one node's IPv6 pod CIDR"),
    one(
        "node_ip",
        "MINIONET_NODE_IP",
        "ADDRESS",
        "",
        "The node's own address [default: the local address that appears in the DNS answer]",
    ),
    one(
        "interface",
        "MINIONET_INTERFACE",
        "NAME",
        "",
        "Interface that carries the node's own address [default: any]",
    ),
    one("vni", "MINIONET_VNI", "NUMBER", "4097", "VXLAN network identifier, the same on every node"),
    one("port", "MINIONET_PORT", "PORT", "4789", "UDP port of VXLAN, the same on every node"),
    one(
        "underlay_mtu",
        "MINIONET_UNDERLAY_MTU",
        "OCTETS",
        "",
        "MTU between nodes [default: that of the interface with the node's own address]",
    ),
    one(
        "encapsulation",
        "MINIONET_ENCAPSULATION",
        "MODE",
        "always",
        "Which peers' packets are encapsulated: always, cross-subnet (those beyond the node's own subnet), never (the \
         routers of the underlay know the pods)",
    ),
    many(
        "resolvers",
        "MINIONET_RESOLVERS",
        "ADDRESS[:PORT]",
        "",
        "DNS servers to ask [default: those of /etc/resolv.conf]",
    ),
    one(
        "trust_anchor",
        "MINIONET_TRUST_ANCHOR",
        "FILE",
        "",
        "File with all DNSKEY records of the zone; with it, an answer that is not signed by them is no answer \
         [default: answers are taken unsigned]",
    ),
    one(
        "refresh_min",
        "MINIONET_REFRESH_MIN",
        "DURATION",
        "1s",
        "Shortest time between two refreshes, whatever the TTL",
    ),
    one(
        "refresh_max",
        "MINIONET_REFRESH_MAX",
        "DURATION",
        "30s",
        "Longest time between two refreshes, whatever the TTL",
    ),
    one(
        "jitter_percent",
        "MINIONET_JITTER_PERCENT",
        "PERCENT",
        "20",
        "How much a refresh may come early, so that nodes do not ask in step; 0 to 50",
    ),
    one("dns_timeout", "MINIONET_DNS_TIMEOUT", "DURATION", "2s", "How long one DNS query may take"),
    one(
        "missing_answers",
        "MINIONET_MISSING_ANSWERS",
        "COUNT",
        "3",
        "Complete answers in a row that must lack a peer before it is removed",
    ),
    one(
        "hold_down",
        "MINIONET_HOLD_DOWN",
        "DURATION",
        "30s",
        "How long a peer must be missing before it is removed",
    ),
    one(
        "mass_percent",
        "MINIONET_MASS_PERCENT",
        "PERCENT",
        "33",
        "More than this share of the peers missing at once is suspicious; 100 for never",
    ),
    one(
        "mass_floor",
        "MINIONET_MASS_FLOOR",
        "COUNT",
        "2",
        "So many missing peers are never suspicious, whatever their share",
    ),
    one(
        "mass_hold",
        "MINIONET_MASS_HOLD",
        "DURATION",
        "10m",
        "How long the disappearance of a large part of the peers at once is held as suspicious",
    ),
    one(
        "flap_window",
        "MINIONET_FLAP_WINDOW",
        "DURATION",
        "1h",
        "A return within this time after the one before makes a peer a flapping one, whose hold_down doubles",
    ),
    one(
        "flap_hold_max",
        "MINIONET_FLAP_HOLD_MAX",
        "DURATION",
        "10m",
        "Longest hold_down of a flapping peer; not less than hold_down",
    ),
    one(
        "sampling_answers",
        "MINIONET_SAMPLING_ANSWERS",
        "COUNT",
        "6",
        "How many answers of a resolver are looked at to recognise random samples",
    ),
    one(
        "sampling_exit",
        "MINIONET_SAMPLING_EXIT",
        "COUNT",
        "20",
        "So many answers in a row without a sign of samples end that",
    ),
    one(
        "sampling_absence",
        "MINIONET_SAMPLING_ABSENCE",
        "DURATION",
        "30m",
        "How long a peer must be missing from random samples, besides being dead by probe, before it is removed",
    ),
    one(
        "forget_after",
        "MINIONET_FORGET_AFTER",
        "DURATION",
        "1h",
        "How long a removed peer is remembered, so that its return is noticed",
    ),
    one("max_peers", "MINIONET_MAX_PEERS", "COUNT", "20000", "Most peers that are accepted"),
    one(
        "audit_interval",
        "MINIONET_AUDIT_INTERVAL",
        "DURATION",
        "10s",
        "Time between two audits of the kernel's tables; longer with more than 800 routes to peers",
    ),
    one(
        "dns_silence",
        "MINIONET_DNS_SILENCE",
        "DURATION",
        "10m",
        "How long DNS may give no complete answer before the container runtime is told of limited connectivity",
    ),
    one(
        "collect_interval",
        "MINIONET_COLLECT_INTERVAL",
        "DURATION",
        "1m",
        "Time between two looks for what killed calls of the plugin and missing DELs left behind",
    ),
    one(
        "collect_grace",
        "MINIONET_COLLECT_GRACE",
        "DURATION",
        "5m",
        "How long a pod whose namespace is there may lack its interface before its address is given to others",
    ),
    one(
        "probe_port",
        "MINIONET_PROBE_PORT",
        "PORT",
        "4797",
        "UDP port inside of the tunnel on which peers probe each other, the same on every node; off for no probe",
    ),
    one(
        "probe_interval",
        "MINIONET_PROBE_INTERVAL",
        "DURATION",
        "30s",
        "Time between two probes of a peer that answers; longer with more than 720 peers",
    ),
    one(
        "trace_port",
        "MINIONET_TRACE_PORT",
        "PORT",
        "4798",
        "UDP port, on the underlay and inside of the tunnel, on which traces and the doctor of other nodes are \
         answered, the same on every node; off for no answers",
    ),
    one(
        "metrics_address",
        "MINIONET_METRICS_ADDRESS",
        "ADDRESS:PORT|PATH",
        "127.0.0.1:4799",
        "Where /metrics, /healthz and /readyz are served: an address of this node, the path of a socket, or off",
    ),
    switch(
        "metrics_every_peer",
        "MINIONET_METRICS_EVERY_PEER",
        "false",
        "Whether every peer gets metrics of its own, and not only the ten worst of those with a problem",
    ),
    switch(
        "masquerade",
        "MINIONET_MASQUERADE",
        "true",
        "Whether pods reach addresses outside the pod networks with the node's address",
    ),
    many(
        "masquerade_exempt",
        "MINIONET_MASQUERADE_EXEMPT",
        "CIDR",
        "",
        "Destinations outside the pod networks to which pods keep their own address",
    ),
    switch(
        "register",
        "MINIONET_REGISTER",
        "false",
        "Whether this node puts its own record into DNS, by dynamic updates (RFC 2136)",
    ),
    one(
        "register_role",
        "MINIONET_REGISTER_ROLE",
        "ROLE",
        "",
        "Role whose name gets the record [default: the first of roles]",
    ),
    one(
        "register_server",
        "MINIONET_REGISTER_SERVER",
        "SERVER[:PORT]",
        "",
        "Address or name of the server that takes the updates [default: the primary server in the zone's SOA record]",
    ),
    one(
        "register_zone",
        "MINIONET_REGISTER_ZONE",
        "ZONE",
        "",
        "Zone that is updated [default: the one that the name is in, as its SOA record says]",
    ),
    one(
        "register_key",
        "MINIONET_REGISTER_KEY",
        "FILE",
        "/etc/minionet/register.key",
        "File with the key that signs the updates (TSIG), in the format of tsig-keygen",
    ),
    one("register_ttl", "MINIONET_REGISTER_TTL", "DURATION", "30s", "Time to live of the records"),
    one(
        "register_lease",
        "MINIONET_REGISTER_LEASE",
        "DURATION",
        "1h",
        "How long a node must be dead and its lease rest until the others remove its record; off for never",
    ),
    one(
        "cni_conf_dir",
        "MINIONET_CNI_CONF_DIR",
        "DIR",
        "/etc/cni/net.d",
        "Where the network configuration list for the container runtime is installed",
    ),
    one(
        "log_level",
        "MINIONET_LOG_LEVEL",
        "LEVEL",
        "info",
        "What is logged: error, warn, info, debug, trace, or a filter per module",
    ),
    one(
        "log_format",
        "MINIONET_LOG_FORMAT",
        "FORMAT",
        "text",
        "How it is logged: text for people, json for machines",
    ),
];

impl Setting {
    /// The flag, without its two leading dashes.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }
}
