//! Help of the two services with a capability.

/// Of `arp`.
pub(super) const ARP: &str = "\
Runs as smolotchi-arp.service for one call of core's, and is off as shipped. To turn it on:
  systemctl enable --now smolotchi-arp.socket
and name its interfaces and the action that uses it, in /etc/smolotchi/config.d/50-local.toml:
  [policy]
  arp_interfaces = [\"eth0\"]
  actions = [\"arp-listen\", ...]    # with those that are allowed already: smolotchi config show
By hand, for development, as a user who has that capability:
  setpriv --reuid smolotchi-arp --clear-groups --inh-caps +net_raw --ambient-caps +net_raw \\
    smolotchi arp --socket /tmp/arp.sock";

/// Of `net`.
pub(super) const NET: &str = "\
Runs as smolotchi-net.service for one call of core's, and is off as shipped. To turn it on:
  systemctl enable --now smolotchi-net.socket
and name its interfaces and the actions that use it, in /etc/smolotchi/config.d/50-local.toml:
  [policy]
  net_interfaces = [\"wlan0\"]
  actions = [\"link-restart\", ...]  # with those that are allowed already: smolotchi config show
An operator still approves each time: smolotchi stages list
By hand, for development, as root:
  smolotchi net --socket /tmp/net.sock";
