// fake_store serves the in-memory store on three ports, until standard input ends, and prints their addresses. It is
// what a new peer program is tried against before it meets the real servers.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"sluice/interop/fake"
)

func main() {
	fault := flag.String("fault", "", "one fault of: "+strings.Join(fake.Faults, " "))
	listen := flag.String("listen", "127.0.0.1:0,127.0.0.1:0,127.0.0.1:0", "host:port of each front door; port 0: any")
	flag.Parse()
	store := fake.New(*fault)
	addresses := []string{}
	for _, address := range strings.Split(*listen, ",") {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, "fake_store:", err)
			os.Exit(1)
		}
		defer store.Serve(listener).Stop()
		addresses = append(addresses, listener.Addr().String())
	}
	fmt.Println(strings.Join(addresses, ","))
	_, _ = io.Copy(io.Discard, os.Stdin)
}
