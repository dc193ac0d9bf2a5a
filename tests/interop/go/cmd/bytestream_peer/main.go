// bytestream_peer runs the ByteStream cases against running servers.
//
//	bytestream_peer -servers 127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420
//
// One line per case, then `N passed, N failed`. Exit code 0 if all passed, 1 if one failed, 2 for wrong usage.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	interop "sluice/interop"
)

func main() {
	servers := flag.String("servers", os.Getenv("SLUICE_SERVERS"), "host:port of each server, comma separated")
	only := flag.String("only", "", "run only the cases whose name contains this")
	services := flag.String("services", "", "gRPC services that reflection must list as well, comma separated")
	flag.Parse()
	cluster, err := interop.Connect(*servers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bytestream_peer:", err)
		os.Exit(2)
	}
	defer cluster.Close()
	if *services != "" {
		cluster.Services = strings.Split(*services, ",")
	}
	passed, failed := cluster.Run(os.Stdout, *only)
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || passed == 0 {
		os.Exit(1)
	}
}
