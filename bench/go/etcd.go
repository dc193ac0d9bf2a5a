package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const startTimeout = 30 * time.Second

// Etcd is three etcd servers on loopback, children of this process, with their usual syncs.
type Etcd struct {
	Endpoints []string
	commands  []*exec.Cmd
}

// StartEtcd starts three servers with their data in `folder` and waits until they have a leader.
func StartEtcd(program, folder string) (*Etcd, error) {
	ports, err := FreePorts(6)
	if err != nil {
		return nil, err
	}
	url := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
	cluster := []string{}
	for i := range 3 {
		cluster = append(cluster, fmt.Sprintf("e%d=%s", i, url(ports[3+i])))
	}
	etcd := &Etcd{}
	for i := range 3 {
		name := fmt.Sprintf("e%d", i)
		log, err := os.Create(filepath.Join(folder, name+".log"))
		if err != nil {
			etcd.Stop()
			return nil, err
		}
		command := exec.Command(program, "--name", name, "--data-dir", filepath.Join(folder, name),
			"--listen-client-urls", url(ports[i]), "--advertise-client-urls", url(ports[i]),
			"--listen-peer-urls", url(ports[3+i]), "--initial-advertise-peer-urls", url(ports[3+i]),
			"--initial-cluster", strings.Join(cluster, ","), "--initial-cluster-state", "new",
			"--initial-cluster-token", filepath.Base(folder), "--logger", "zap", "--log-level", "warn")
		command.Stdout, command.Stderr = log, log
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = command.Start()
		_ = log.Close() // the child has its own
		if err != nil {
			etcd.Stop()
			return nil, err
		}
		etcd.commands = append(etcd.commands, command)
		etcd.Endpoints = append(etcd.Endpoints, fmt.Sprintf("127.0.0.1:%d", ports[i]))
	}
	return etcd, nil
}

// Stop ends the servers, by their process ids.
func (e *Etcd) Stop() {
	for _, command := range e.commands {
		_ = command.Process.Signal(syscall.SIGTERM)
	}
	for _, command := range e.commands {
		_ = command.Wait()
	}
	e.commands = nil
}

// Connect opens `count` connections, all to the leader: the fastest way to use etcd.
func (e *Etcd) Connect(count int) ([]*clientv3.Client, error) {
	leader, err := e.leader()
	if err != nil {
		return nil, err
	}
	clients := []*clientv3.Client{}
	for range count {
		client, err := connect(leader)
		if err != nil {
			return nil, errors.Join(err, Close(clients))
		}
		clients = append(clients, client)
	}
	return clients, nil
}

// Close closes connections.
func Close(clients []*clientv3.Client) error {
	errs := []error{}
	for _, client := range clients {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}

func connect(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: startTimeout, Logger: zap.NewNop()})
}

// leader asks each server until one says that it leads and a put goes through.
func (e *Etcd) leader() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	last := errors.New("no server answered")
	for ctx.Err() == nil {
		for _, endpoint := range e.Endpoints {
			leads, err := isLeader(ctx, endpoint)
			if err != nil {
				last = err
			} else if leads {
				return endpoint, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	return "", fmt.Errorf("etcd has no leader after %v: %w", startTimeout, last)
}

func isLeader(ctx context.Context, endpoint string) (bool, error) {
	client, err := connect(endpoint)
	if err != nil {
		return false, err
	}
	defer client.Close()
	call, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, err := client.Status(call, endpoint)
	if err != nil || status.Leader == 0 || status.Header.MemberId != status.Leader {
		return false, err
	}
	_, err = client.Put(call, "ready", "yes")
	return err == nil, err
}
