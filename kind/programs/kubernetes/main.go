// The programs of Kubernetes in one: the name that it is called by says which one runs, so links with those names lead to it. They share
// nearly all of their packages. Linked once, they take a third of the disk and a fraction of the time that they take one by one.
//
// kubectl and etcd are not in it: every start of a program initialises all its packages, here 70 to 100 ms of CPU more than kubectl and
// etcd take alone. The daemons start once; kubectl is called thousands of times, and etcd needs next to nothing that the others have.
package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	_ "time/tzdata" // CronJobs with a time zone

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app"
	utilerrors "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

var programs = map[string]func(){
	"kube-apiserver":          func() { run(apiserver.NewAPIServerCommand()) },
	"kube-controller-manager": func() { run(controllers.NewControllerManagerCommand()) },
	"kube-proxy":              runProxy,
	"kube-scheduler":          func() { run(scheduler.NewSchedulerCommand()) },
	"kubeadm":                 runKubeadm,
	"kubelet":                 func() { run(kubelet.NewKubeletCommand(context.Background())) },
}

func main() {
	name := filepath.Base(os.Args[0])
	program, ok := programs[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s: call it by a link named %v\n", name, slices.Sorted(maps.Keys(programs)))
		os.Exit(2)
	}
	program()
}

func run(command *cobra.Command) { os.Exit(cli.Run(command)) }

// kube-proxy and kubeadm show the flags of all packages that define any, but the ones of the kubelet's and the servers' are not theirs.

func runProxy() {
	all := flag.CommandLine
	flag.CommandLine = flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	for _, name := range []string{"boot_id_file", "machine_id_file"} {
		if f := all.Lookup(name); f != nil {
			flag.Var(f.Value, f.Name, f.Usage)
		}
	}
	run(proxy.NewProxyCommand())
}

func runKubeadm() {
	flag.CommandLine = flag.NewFlagSet(os.Args[0], flag.ExitOnError)
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ExitOnError)
	utilerrors.HandleError(kubeadm.Run())
}
