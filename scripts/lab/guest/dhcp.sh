#!/bin/sh
# What udhcpc runs when it has got a lease: `udhcpc -i eth0 -s /etc/dhcp.sh`.
case "$1" in
  deconfig) ip link set "$interface" up ;;
  bound | renew)
    ip addr flush dev "$interface" scope global
    ip addr add "$ip/${mask:-24}" dev "$interface"
    for gateway in $router; do ip route replace default via "$gateway" dev "$interface" onlink; done
    : >/etc/resolv.conf
    for server in $dns; do echo "nameserver $server" >>/etc/resolv.conf; done
    ;;
esac
