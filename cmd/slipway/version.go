package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = ""

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "dev"
}

// versions is what version prints and /version answers.
type versions struct {
	Slipway  string   `json:"slipway"`
	Go       string   `json:"go"`
	Platform string   `json:"platform"`
	Prefect  []string `json:"prefect"` // versions whose workers are imitated
}

func allVersions() versions {
	return versions{buildVersion(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, []string{"3.8.8", "2.20.25"}}
}

func versionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := allVersions()
			if output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "slipway %s (%s, %s), as the workers of Prefect %s and %s\n", v.Slipway, v.Go, v.Platform, v.Prefect[0], v.Prefect[1])
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
