package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// cannotStart is a container that waits with a kubelet's reason.
type cannotStart struct{ reason, text string }

func (e *cannotStart) Error() string { return e.text }

// command makes the process of a container.
func (p *pod) command(ctx context.Context, c *corev1.Container) (*exec.Cmd, error) {
	image, ok := p.node.image(c.Image)
	if !ok {
		return nil, &cannotStart{"ErrImagePull", fmt.Sprintf("the process node has no image %q", c.Image)}
	}
	if len(c.VolumeMounts) > 0 && slices.ContainsFunc(p.spec.Spec.Volumes, func(v corev1.Volume) bool { return v.Projected == nil }) {
		return nil, &cannotStart{"CreateContainerError", "the process node mounts no volumes"}
	}
	env, err := p.environment(ctx, c, image)
	if err != nil {
		return nil, err
	}
	args := append(slices.Clone(image.Entrypoint), expandAll(c.Args, env)...)
	if len(c.Command) > 0 {
		args = append(expandAll(c.Command, env), expandAll(c.Args, env)...)
	}
	if len(args) == 0 {
		return nil, &cannotStart{"CreateContainerError", "no command is given"}
	}
	path, err := lookPath(args[0], env["PATH"])
	if err != nil {
		return nil, &cannotStart{"RunContainerError", err.Error()}
	}
	cmd := &exec.Cmd{Path: path, Args: args, Dir: image.Dir, SysProcAttr: &syscall.SysProcAttr{Setpgid: true}}
	if c.WorkingDir != "" {
		cmd.Dir = c.WorkingDir
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		cmd.Env = append(cmd.Env, name+"="+env[name])
	}
	return cmd, nil
}

func lookPath(name, path string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(path, string(os.PathListSeparator)) {
		file := dir + "/" + name
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("executable %q is not found in PATH", name)
}

// environment resolves a container's variables: those of the image, then envFrom,
// then env.
func (p *pod) environment(ctx context.Context, c *corev1.Container, image Image) (map[string]string, error) {
	env := map[string]string{"PATH": os.Getenv("PATH"), "HOME": p.node.Dir, "HOSTNAME": p.spec.Name}
	maps.Copy(env, image.Env)
	for _, source := range c.EnvFrom {
		data, err := p.source(ctx, source)
		if err != nil {
			return nil, err
		}
		for key, value := range data {
			env[source.Prefix+key] = value
		}
	}
	for _, v := range c.Env {
		value, found, err := p.variable(ctx, v, env)
		if err != nil {
			return nil, fmt.Errorf("variable %s: %w", v.Name, err)
		}
		if found {
			env[v.Name] = value
		}
	}
	return env, nil
}

func (p *pod) source(ctx context.Context, s corev1.EnvFromSource) (map[string]string, error) {
	switch {
	case s.SecretRef != nil:
		return p.secret(ctx, s.SecretRef.Name, isTrue(s.SecretRef.Optional))
	case s.ConfigMapRef != nil:
		return p.configMap(ctx, s.ConfigMapRef.Name, isTrue(s.ConfigMapRef.Optional))
	}
	return nil, nil
}

func (p *pod) variable(ctx context.Context, v corev1.EnvVar, env map[string]string) (string, bool, error) {
	if v.ValueFrom == nil {
		return expand(v.Value, env), true, nil
	}
	var data map[string]string
	var err error
	key, optional := "", false
	switch from := v.ValueFrom; {
	case from.SecretKeyRef != nil:
		key, optional = from.SecretKeyRef.Key, isTrue(from.SecretKeyRef.Optional)
		data, err = p.secret(ctx, from.SecretKeyRef.Name, optional)
	case from.ConfigMapKeyRef != nil:
		key, optional = from.ConfigMapKeyRef.Key, isTrue(from.ConfigMapKeyRef.Optional)
		data, err = p.configMap(ctx, from.ConfigMapKeyRef.Name, optional)
	case from.FieldRef != nil:
		key = from.FieldRef.FieldPath
		data = p.fields()
	default:
		return "", false, &cannotStart{"CreateContainerConfigError", "the process node supports secretKeyRef, configMapKeyRef and fieldRef only"}
	}
	if err != nil {
		return "", false, err
	}
	value, ok := data[key]
	if !ok && !optional {
		return "", false, fmt.Errorf("key %q is not found", key)
	}
	return value, ok, nil
}

func (p *pod) fields() map[string]string {
	fields := map[string]string{
		"metadata.name": p.spec.Name, "metadata.namespace": p.spec.Namespace, "metadata.uid": string(p.spec.UID),
		"spec.nodeName": p.node.Name, "spec.serviceAccountName": p.spec.Spec.ServiceAccountName, "status.podIP": "127.0.0.1", "status.hostIP": "127.0.0.1",
	}
	for k, v := range p.spec.Labels {
		fields["metadata.labels['"+k+"']"] = v
	}
	for k, v := range p.spec.Annotations {
		fields["metadata.annotations['"+k+"']"] = v
	}
	return fields
}

func (p *pod) secret(ctx context.Context, name string, optional bool) (map[string]string, error) {
	secret, err := p.node.client.CoreV1().Secrets(p.spec.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data := map[string]string{}
	for k, v := range secret.Data {
		data[k] = string(v)
	}
	return data, nil
}

func (p *pod) configMap(ctx context.Context, name string, optional bool) (map[string]string, error) {
	configMap, err := p.node.client.CoreV1().ConfigMaps(p.spec.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) && optional {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return configMap.Data, nil
}

func isTrue(b *bool) bool { return b != nil && *b }

// expand replaces $(NAME); $$ is a dollar, and an unknown name stays.
func expand(text string, env map[string]string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		switch end := strings.IndexByte(text[i:], ')'); {
		case text[i+1] == '$':
			b.WriteByte('$')
			i++
		case text[i+1] == '(' && end > 0:
			name := text[i+2 : i+end]
			value, ok := env[name]
			if !ok {
				value = text[i : i+end+1]
			}
			b.WriteString(value)
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String()
}

func expandAll(texts []string, env map[string]string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = expand(t, env)
	}
	return out
}
