import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { beforeAll, describe, expect, it } from "vitest";
import { parse, parseAllDocuments } from "yaml";
import { createRuntime } from "../../src/runtime/create.ts";
import { startServer } from "../../src/server/server.ts";
import { chainModel } from "../fixtures/models.ts";

// biome-ignore lint/suspicious/noExplicitAny: files whose shape the tests state.
type Parsed = any;

const root = new URL("../../", import.meta.url);
const text = (path: string) => readFileSync(new URL(path, root), "utf8");
const main = fileURLToPath(new URL("dist/src/cli/main.js", root));

const compose: Parsed = parse(text("deploy/compose.yaml"));
const [deployment, service, budget] = parseAllDocuments(text("deploy/kubernetes/cellbatch.yaml")).map(
  (document): Parsed => document.toJS(),
);
const pod = deployment.spec.template.spec;
const [container] = pod.containers;
const unit = text("deploy/systemd/cellbatch.service");
const dockerfile = text("deploy/Dockerfile");
const dockerArgs = JSON.parse(/^CMD (\[.*\])$/m.exec(dockerfile)![1]!) as string[];

/** How each file starts the server. */
const commands: Readonly<Record<string, readonly string[]>> = {
  Dockerfile: dockerArgs,
  "compose.yaml": compose.services.cellbatch.command,
  "cellbatch.yaml": container.args,
  "cellbatch.service": /^ExecStart=\S+ cellbatch (.*)$/m.exec(unit)![1]!.split(" "),
};
const argOf = (args: readonly string[], flag: string) => args[args.indexOf(flag) + 1];
const seconds = (duration: string) => Number(/^(\d+)s?$/.exec(duration)![1]);
const unitValue = (key: string) => new RegExp(`^${key}=(.*)$`, "m").exec(unit)?.[1];

let help = "";
beforeAll(async () => {
  help = (await promisify(execFile)(process.execPath, [main, "serve", "--help"])).stdout;
}, 120_000);

describe("the files in deploy/", () => {
  it.each(Object.entries(commands))("(%s) give `cellbatch serve` options that it has", (_, args) => {
    expect(args[0]).toBe("serve");
    const known = new Set(help.match(/--[a-z-]+/g));
    const given = args.filter((arg) => arg.startsWith("--"));
    expect(given.length).toBeGreaterThan(2);
    expect(given.filter((flag) => !known.has(flag))).toEqual([]);
  });

  it("open the ports that the server listens on", () => {
    for (const [file, args] of Object.entries(commands))
      expect([file, argOf(args, "--port")]).toEqual([file, "8080"]);
    const ports = Object.fromEntries(container.ports.map((port: Parsed) => [port.name, port.containerPort]));
    expect(ports).toEqual({
      http: Number(argOf(container.args, "--port")),
      grpc: Number(argOf(container.args, "--grpc-port")),
    });
    expect(service.spec.ports.map((port: Parsed) => [port.port, port.targetPort])).toEqual([
      [8080, "http"],
      [8001, "grpc"],
    ]);
    expect(dockerfile).toMatch(/^EXPOSE 8080 8001$/m);
    expect(compose.services.cellbatch.ports).toEqual(["127.0.0.1:8080:8080", "127.0.0.1:8001:8001"]);
    const [job] = parse(text("deploy/prometheus/prometheus.yml")).scrape_configs;
    expect(job.static_configs[0].targets).toEqual(["cellbatch:8080"]);
  });

  it("listen on all addresses in a container only", () => {
    for (const [file, args] of Object.entries(commands)) {
      const host = file === "cellbatch.service" ? "127.0.0.1" : "0.0.0.0";
      expect([file, argOf(args, "--host")]).toEqual([file, host]);
    }
  });

  it("ask for paths that a server answers", async () => {
    const probes = [container.startupProbe, container.readinessProbe, container.livenessProbe];
    const paths = [
      ...probes.map((probe: Parsed) => probe.httpGet.path),
      /http:\/\/127\.0\.0\.1:8080(\/[\w/]+)/.exec(dockerfile)![1],
      deployment.spec.template.metadata.annotations["prometheus.io/path"],
      parse(text("deploy/prometheus/prometheus.yml")).scrape_configs[0].metrics_path,
    ];
    const runtime = await createRuntime({ models: [chainModel()], inline: true });
    const server = await startServer({ runtime, port: 0 });
    try {
      for (const path of paths) {
        const { status } = await fetch(`http://127.0.0.1:${server.port}${path}`);
        expect([path, status]).toEqual([path, 200]);
      }
    } finally {
      await server.close(0);
      await runtime.close(0);
    }
  }, 120_000);

  it("leave the server the time to drain before it is killed", () => {
    const drain = (args: readonly string[]) => Number(argOf(args, "--drain-ms")) / 1000;
    expect(seconds(compose.services.cellbatch.stop_grace_period)).toBeGreaterThan(
      drain(commands["compose.yaml"]!) + 5,
    );
    const before = Number(container.lifecycle.preStop.exec.command[1]);
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(before + drain(container.args) + 5);
    expect(seconds(unitValue("TimeoutStopSec")!)).toBeGreaterThan(drain(commands["cellbatch.service"]!) + 5);
  });

  it("run without rights that the server does not need", () => {
    expect(dockerfile).toMatch(/^USER node$/m);
    expect(pod.securityContext.runAsNonRoot).toBe(true);
    expect(container.securityContext).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"] },
    });
    expect(compose.services.cellbatch).toMatchObject({ read_only: true, cap_drop: ["ALL"] });
    for (const key of ["DynamicUser", "NoNewPrivileges", "PrivateTmp", "ProtectHome"])
      expect(unitValue(key)).toBe("yes");
  });

  it("name each other and files that are there", () => {
    expect(deployment.spec.selector.matchLabels).toEqual(deployment.spec.template.metadata.labels);
    expect(service.spec.selector).toEqual(deployment.spec.selector.matchLabels);
    expect(budget.spec.selector).toEqual(deployment.spec.selector);
    const mounts = Object.values<Parsed>(compose.services).flatMap(({ volumes }) => volumes ?? []);
    for (const mount of mounts as string[]) {
      expect([mount, existsSync(new URL(`deploy/${mount.split(":")[0]}`, root))]).toEqual([mount, true]);
    }
    expect(compose.services.cellbatch.build.dockerfile).toBe("deploy/Dockerfile");
    const { providers } = parse(text("deploy/grafana/provisioning/dashboards/cellbatch.yaml"));
    expect(compose.services.grafana.volumes.join(" ")).toContain(
      `:${providers[0].options.path}/cellbatch.json:`,
    );
    const { datasources } = parse(text("deploy/grafana/provisioning/datasources/prometheus.yaml"));
    expect(datasources[0].url).toBe("http://prometheus:9090");
  });
});
