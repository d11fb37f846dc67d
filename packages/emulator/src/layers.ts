/** What lies over the methods of objects, by object and method's name, the lowest first. */
const layersOf = new WeakMap<object, Map<PropertyKey, Layer[]>>();

type Method = (...args: never[]) => unknown;
type Layer = (inner: Method) => Method;

/** The names of an object's methods. */
type MethodNames<T> = { [K in keyof T]: T[K] extends Method ? K : never }[keyof T];

/**
 * Lays `layer` over the method `name` of one object, until what it returns is called. An object without layers runs its
 * class's own method and nothing else: what tests need costs nothing where it is not used. Layers may end in any order.
 */
export function layOver<T extends object, K extends MethodNames<T>>(
  target: T,
  name: K,
  layer: (inner: T[K]) => T[K],
): () => void {
  const methods = layersOf.get(target) ?? new Map<PropertyKey, Layer[]>();
  layersOf.set(target, methods);
  const layers = methods.get(name) ?? [];
  methods.set(name, layers);
  layers.push(layer as unknown as Layer);
  build(target, name, layers);
  return () => {
    const index = layers.indexOf(layer as unknown as Layer);
    if (index < 0) return;
    layers.splice(index, 1);
    build(target, name, layers);
  };
}

function build(target: object, name: PropertyKey, layers: readonly Layer[]): void {
  Reflect.deleteProperty(target, name);
  if (layers.length === 0) return;
  const own = (Reflect.get(target, name) as Method).bind(target) as Method;
  Reflect.set(
    target,
    name,
    layers.reduce((inner, layer) => layer(inner), own),
  );
}
