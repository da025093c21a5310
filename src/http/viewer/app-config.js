// OHIF's configuration: its data source is the server that this file comes from, whatever its URL.
(() => {
  const here = new URL(".", document.currentScript.src);
  const service = new URL("../dicom-web", here).href;
  window.config = {
    name: "cuspid",
    routerBasename: here.pathname,
    extensions: [],
    modes: [],
    customizationService: {},
    showStudyList: true,
    showLoadingIndicator: true,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    investigationalUseDialog: { option: "never" },
    maxNumberOfWebWorkers: 3,
    // Over HTTP/1.1 a browser has six requests under way to one server; more would only wait there.
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    showErrorDetails: "always",
    defaultDataSourceName: "dicomweb",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "dicomweb",
        configuration: {
          friendlyName: "Cuspid",
          name: "cuspid",
          qidoRoot: service,
          wadoRoot: service,
          wadoUriRoot: new URL("../wado", here).href,
          qidoSupportsIncludeField: true,
          supportsFuzzyMatching: true,
          supportsWildcard: true,
          supportsReject: false,
          dicomUploadEnabled: true,
          imageRendering: "wadors",
          thumbnailRendering: "thumbnail",
          thumbnailRequestStrategy: "fetch",
          enableStudyLazyLoad: true,
          singlepart: "bulkdata,video,pdf",
          bulkDataURI: { enabled: true },
          omitQuotationForMultipartRequest: true,
        },
      },
    ],
  };
})();
