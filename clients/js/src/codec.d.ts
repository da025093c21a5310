declare module "@cornerstonejs/codec-openjpeg/decodewasmjs" {
  const create: (options: Record<string, unknown>) => Promise<any>;
  export default create;
}
