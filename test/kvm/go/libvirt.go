// What a program does with go-libvirt: defines a domain, watches it, starts it, asks about it, reads its console and
// removes it. A line for each step goes to standard output.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

func check(what string, err error) {
	if err != nil {
		fmt.Printf("not ok %s: %v\n", what, err)
		os.Exit(1)
	}
}

// Waits for the event of a kind that a step has to cause.
func expect(events <-chan libvirt.DomainEventLifecycleMsg, kind libvirt.DomainEventType) {
	select {
	case event := <-events:
		if event.Event != int32(kind) {
			check("event", fmt.Errorf("%d (%d), not %d", event.Event, event.Detail, kind))
		}
		fmt.Printf("event %s %d\n", event.Dom.Name, event.Event)
	case <-time.After(time.Minute):
		check("event", fmt.Errorf("%d did not come", kind))
	}
}

// A console's output, until it has said something.
type output struct {
	wanted string
	text   strings.Builder
	said   chan struct{}
}

func (o *output) Write(bytes []byte) (int, error) {
	had := strings.Contains(o.text.String(), o.wanted)
	o.text.Write(bytes)
	if !had && strings.Contains(o.text.String(), o.wanted) {
		close(o.said)
	}
	return len(bytes), nil
}

func main() {
	socket, documentFile := os.Args[1], os.Args[2]
	l := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(socket)))
	check("connect", l.Connect())
	version, err := l.Version()
	check("version", err)
	fmt.Println("version", version)
	hostname, err := l.ConnectGetHostname()
	check("hostname", err)
	fmt.Println("hostname", hostname != "")
	_, err = l.DomainLookupByName("none")
	fmt.Println("not found", libvirt.IsNotFound(err))

	ctx, cancel := context.WithCancel(context.Background())
	events, err := l.LifecycleEvents(ctx)
	check("events", err)
	document, err := os.ReadFile(documentFile)
	check("document", err)
	dom, err := l.DomainDefineXML(string(document))
	check("define", err)
	expect(events, libvirt.DomainEventDefined)
	check("create", l.DomainCreate(dom))
	expect(events, libvirt.DomainEventStarted)
	domains, _, err := l.ConnectListAllDomains(1, libvirt.ConnectListDomainsActive)
	check("list", err)
	for _, each := range domains {
		state, err := l.DomainState(each.Name)
		check("state", err)
		fmt.Println("domain", each.Name, each.ID, int32(state))
	}
	_, maxMem, _, vcpus, _, err := l.DomainGetInfo(dom)
	check("info", err)
	fmt.Println("info", maxMem, vcpus)
	stats, err := l.ConnectGetAllDomainStats([]libvirt.Domain{dom}, uint32(libvirt.DomainStatsState), 0)
	check("stats", err)
	fmt.Println("stats", len(stats), stats[0].Params[0].Field)
	xml, err := l.XML(dom.Name, 0)
	check("xml", err)
	fmt.Println("xml", strings.Contains(string(xml), "<name>"+dom.Name+"</name>"))

	console := &output{wanted: "\n", said: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- l.DomainOpenConsole(dom, nil, io.Writer(console), 0) }()
	check("suspend", l.DomainSuspend(dom))
	expect(events, libvirt.DomainEventSuspended)
	check("resume", l.DomainResume(dom))
	expect(events, libvirt.DomainEventResumed)
	check("reset", l.DomainReset(dom, 0))
	select {
	case <-console.said:
		fmt.Println("console said something")
	case <-time.After(time.Minute):
		check("console", fmt.Errorf("said %q", console.text.String()))
	}
	check("destroy", l.DomainDestroyFlags(dom, libvirt.DomainDestroyDefault))
	expect(events, libvirt.DomainEventStopped)
	check("console's end", <-ended)
	check("undefine", l.Undefine(dom.Name, 0))
	expect(events, libvirt.DomainEventUndefined)
	cancel()
	check("disconnect", l.Disconnect())
	fmt.Println("ok")
}
