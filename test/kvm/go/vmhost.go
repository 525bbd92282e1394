// What masterblaster's daemon does with a VM's process, by its own client.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/papercomputeco/masterblaster/pkg/vmhost"
)

func main() {
	client := vmhost.NewClient(os.Args[1])
	for deadline := time.Now().Add(time.Minute); !client.IsAlive(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			fmt.Println("not ok: it is not alive")
			os.Exit(1)
		}
	}
	show("status", client.Status)
	show("info", client.Info)
	show("stop", func() (*vmhost.Response, error) { return client.Stop(60) })
	show("status", client.Status)
	show("force_stop", client.ForceStop)
	for client.IsAlive() {
		time.Sleep(100 * time.Millisecond)
	}
	fmt.Println("gone")
}

func show(method string, call func() (*vmhost.Response, error)) {
	response, err := call()
	if err != nil {
		fmt.Println("not ok", method, err)
		os.Exit(1)
	}
	fmt.Printf("%s %s %q\n", method, response.State, response.Backend)
}
