package world

import (
	"fmt"
	"path/filepath"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Overlay is what `kubectl kustomize` makes of a folder of deploy/: a YAML document
// for each object.
func Overlay(folder string) ([][]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(Root(), "deploy", folder))
	if err != nil {
		return nil, fmt.Errorf("build deploy/%s: %w", folder, err)
	}
	var all [][]byte
	for _, r := range resources.Resources() {
		data, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}
